"""Fail what can never be sent, without an attempt."""

from __future__ import annotations

from orchestrator.core.events import Settled
from orchestrator.core.lifecycle import State
from orchestrator.engine.preparation import Unsendable
from orchestrator.engine.steps.context import Context
from orchestrator.stores.base import PendingRequest

__all__ = ["refuse"]


async def refuse(context: Context, request: PendingRequest, unsendable: Unsendable) -> None:
    """Fail a request that can never be sent."""
    now = context.clock.now()
    if await context.store.fail_pending(request.id, unsendable.code, unsendable.message, now):
        context.count(State.PENDING, State.FAILED)
        context.progress.settled_here += 1
        context.observe(
            Settled(
                key=request.key,
                state=State.FAILED,
                code=unsendable.code,
                response_id=None,
                status=None,
                attempts=request.attempts,
                usage=None,
                cost_pusd=None,
                elapsed_s=0.0,
            )
        )
