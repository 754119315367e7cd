"""Removes a run from the database, if nothing of it is open and no one else needs it."""

from __future__ import annotations

from orchestrator.app.sent_request import name_of_notes
from orchestrator.app.split_runs import name_of_split
from orchestrator.app.stage_summaries import name_of_exports
from orchestrator.app.stored_job import name_of_job_file
from orchestrator.core.errors import UsageError
from orchestrator.core.states import State
from orchestrator.engine.lane_notes import name_of_lanes
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Needed, Run

__all__ = ["refuse_removal", "remove_run"]

_AT_THE_PROVIDER = (State.SUBMITTING, State.SUBMITTED, State.AWAITING_TOOLS, State.IN_DOUBT)


async def refuse_removal(run: Run, reader: Reader) -> None:
    """Raise ``UsageError`` if a run must not be removed."""
    counts = (await reader.summary(run.id)).requests
    left = sum(counts.get(state, 0) for state in _AT_THE_PROVIDER)
    if left:
        raise UsageError(
            f"run {run.name!r} has {left:,} requests that are open at the provider or in doubt, and will be charged",
            hint=f"orchestrator cancel {run.name} ends them; then remove it",
        )
    needed = await reader.needed_by(run.id)
    if needed != Needed():
        raise UsageError(f"run {run.name!r} is needed: {_reason(needed)}", hint="nothing was removed")


async def remove_run(run: Run, *, store: Store, reader: Reader) -> None:
    """Remove a run with all that belongs to it; for the process that holds its lock."""
    await refuse_removal(run, reader)
    await store.remove_run(
        run.id,
        names=[
            name_of_notes(run),
            name_of_exports(run),
            name_of_job_file(run),
            name_of_lanes(run.id),
            name_of_split(run.id),
        ],
    )


def _reason(needed: Needed) -> str:
    if needed.datasets:
        return f"it holds answers of the dataset {', '.join(needed.datasets)}"
    return f"{', '.join(needed.waiting_runs)} waits for its answers or for responses that it pays for"
