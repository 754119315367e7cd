"""The lanes: the ways in which a request can be carried out, each with its own price and its own time."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AUTO", "BATCH_WINDOW_S", "WINDOWS", "Lane", "first_lane", "in_background"]


class Lane(StrEnum):
    """One way to carry a request out. It is stored with each attempt, and named in costs and exports."""

    BACKGROUND = "background"
    SYNC = "sync"
    FLEX = "flex"
    WINDOW_2H = "window-2h"
    WINDOW_8H = "window-8h"
    BATCH = "batch"


# In a job, in place of a lane: the cheapest one that meets the deadline.
AUTO = "auto"

# The completion window that a lane asks for (responses API, "background_options"), and its length in seconds.
WINDOWS: dict[Lane, tuple[str, float]] = {
    Lane.WINDOW_2H: ("2h", 2 * 3600.0),
    Lane.WINDOW_8H: ("8h", 8 * 3600.0),
}
# A batch that is not done by then expires (responses API, "Batch").
BATCH_WINDOW_S = 24 * 3600.0


def first_lane(asked: str) -> Lane:
    """The lane with which a job begins; with ``auto`` it may choose another one before anything is sent."""
    return Lane.BACKGROUND if asked == AUTO else Lane(asked)


def in_background(lane: Lane) -> bool:
    """Whether create calls of the lane say ``background: true``."""
    return lane not in (Lane.SYNC, Lane.BATCH)
