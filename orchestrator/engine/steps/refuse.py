"""Fail what can never be sent, without an attempt."""

from __future__ import annotations

from orchestrator.core.states import Event, State
from orchestrator.engine.preparation import Unsendable
from orchestrator.engine.run_context import RunContext
from orchestrator.stores.reads import PendingRequest

__all__ = ["refuse"]


async def refuse(run: RunContext, request: PendingRequest, unsendable: Unsendable) -> None:
    """Fail a request that can never be sent, and those that depend on it."""
    moved = await run.store.fail_pending(request.id, unsendable.code, unsendable.message, run.clock.now())
    if moved is None:
        return
    failed = run.observation.moved(State.PENDING, Event.FAIL)
    run.observation.settled_unsent(request.key, failed, unsendable.code)
    run.observation.dependents(moved)
    run.status.feed_signal.set()
