"""Which lanes a run takes, and why: the objects for scripts, and the sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from orchestrator.core.lanes import Lane
from orchestrator.core.model import MAIN_STAGE
from orchestrator.report import formatting

__all__ = ["LaneTaken", "lanes_object", "lanes_words"]


class LaneTaken(Protocol):
    """From a time on, the requests of a stage take a lane."""

    @property
    def at(self) -> float: ...

    @property
    def stage(self) -> str: ...

    @property
    def lane(self) -> Lane: ...

    @property
    def why(self) -> str: ...

    @property
    def reconsider_at(self) -> float | None: ...


def lanes_object(taken: Sequence[LaneTaken]) -> list[dict[str, Any]]:
    """Returns every lane that was taken, in order; the last one of a stage holds."""
    return [
        {
            "at": formatting.stamp(each.at),
            "stage": each.stage,
            "lane": each.lane.value,
            "why": each.why,
            "reconsider_at": formatting.stamp(each.reconsider_at),
        }
        for each in taken
    ]


def lanes_words(taken: Sequence[LaneTaken], *, over: bool = False) -> str:
    """Returns the lane that each stage takes now, with the reason; ``over`` says that the run has ended."""
    latest = {each.stage: each for each in taken}
    return "; ".join(_words(each, over=over) for each in latest.values())


def _words(each: LaneTaken, *, over: bool) -> str:
    name = "" if each.stage == MAIN_STAGE else f"{each.stage}: "
    later = ""
    if each.reconsider_at is not None and not over:
        later = f"; to be reconsidered at {formatting.date_time(each.reconsider_at)} UTC"
    return f"{name}{each.lane}, because {each.why}{later}"
