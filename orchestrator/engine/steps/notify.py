"""Tell of requests that were settled, and of those that were moved along with them."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.events import Settled
from orchestrator.core.model import Charge
from orchestrator.core.states import SETTLED, State
from orchestrator.engine.items import OpenResponse
from orchestrator.engine.steps.context import Context
from orchestrator.stores.reads import Dependent

__all__ = ["notify_dependents", "notify_settled", "notify_shared"]


def notify_settled(
    context: Context,
    open_: OpenResponse,
    state: State,
    code: str | None,
    *,
    status: str | None = None,
    charge: Charge | None = None,
) -> None:
    """A request that had an attempt came to its end."""
    context.progress.settled_here += 1
    context.observe(
        Settled(
            key=open_.key,
            state=state,
            code=code,
            response_id=open_.response_id or None,
            status=open_.status if status is None else status,
            attempts=open_.attempts,
            usage=charge.usage if charge is not None else None,
            cost_pusd=charge.cost_pusd if charge is not None else None,
            elapsed_s=context.clock.now() - open_.sent_at,
        )
    )


def notify_shared(context: Context, key: str, state: State, code: str | None = None) -> None:
    """A request came to its end without an attempt of its own."""
    context.progress.settled_here += 1
    context.observe(
        Settled(
            key=key,
            state=state,
            code=code,
            response_id=None,
            status=None,
            attempts=0,
            usage=None,
            cost_pusd=None,
            elapsed_s=0.0,
        )
    )


def notify_dependents(context: Context, followers: Iterable[Dependent] | None) -> bool:
    """Show what moved along with a settled request; True where one of them may be sent now."""
    unblocked = False
    for follower in followers or ():
        context.count(State.BLOCKED, follower.to)
        if follower.to in SETTLED:
            notify_shared(context, follower.key, follower.to, follower.code)
        else:
            unblocked = True
    return unblocked
