"""Fail what can never be sent, without an attempt."""

from __future__ import annotations

from orchestrator.core.states import State
from orchestrator.engine.preparation import Unsendable
from orchestrator.engine.steps.context import Context
from orchestrator.engine.steps.notify import notify_dependents, notify_shared
from orchestrator.stores.reads import PendingRequest

__all__ = ["refuse"]


async def refuse(context: Context, request: PendingRequest, unsendable: Unsendable) -> None:
    """Fail a request that can never be sent, and what waits for it."""
    now = context.clock.now()
    followers = await context.store.fail_pending(request.id, unsendable.code, unsendable.message, now)
    if followers is None:
        return
    context.count(State.PENDING, State.FAILED)
    notify_shared(context, request.key, State.FAILED, unsendable.code)
    notify_dependents(context, followers)
