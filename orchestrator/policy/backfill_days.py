"""Decides what is left of each day of a backfill, and what the days share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.core.states import RunState

__all__ = ["PastRun", "cost_of_others", "run_of_day", "unfinished_outside"]

# What a later night wrote as the reason when it took over what this one had not sent.
_TAKEN_OVER = "taken over by "


@fast_dataclass
class PastRun:
    """A run for a day. ``cost_pusd`` has what is known of its cost, and the bounds of what is not."""

    name: str
    state: RunState
    reason: str | None = None
    cost_pusd: Picodollars = 0

    @property
    def is_over(self) -> bool:
        """Whether its day needs no other run; one that was taken over may have sent only a part of its rows."""
        if self.state is RunState.CANCELLED:
            return not (self.reason or "").startswith(_TAKEN_OVER)
        return self.state is RunState.FINISHED


# The runs of each day, the newest first.
_Past = Mapping[date, Sequence[PastRun]]


def run_of_day(job: str, day: date, past: _Past) -> str | None:
    """The name of the run to make or to resume; None if the day needs none."""
    runs = past.get(day, ())
    if any(run.is_over for run in runs):
        return None
    unfinished = next((run.name for run in runs if run.state is not RunState.CANCELLED), None)
    if unfinished is not None:
        return unfinished
    name, taken, number = f"{job}-{day}", {run.name for run in runs}, 2
    while name in taken:
        name, number = f"{job}-{day}-{number}", number + 1
    return name


def cost_of_others(days: Sequence[date], past: _Past, run: str) -> Picodollars:
    """What all other runs for these days cost: a run may cost what they leave of the budget."""
    return sum(other.cost_pusd for day in days for other in past.get(day, ()) if other.name != run)


def unfinished_outside(days: Sequence[date], past: _Past) -> str | None:
    """An unfinished run of another day: the first night of a backfill would take it over."""
    wanted = set(days)
    return next(
        (
            run.name
            for day, runs in past.items()
            for run in runs
            if day not in wanted and run.state not in (RunState.FINISHED, RunState.CANCELLED)
        ),
        None,
    )
