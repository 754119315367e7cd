"""A request may have been sent and its reply was lost: resend it cheaply, or hold it."""

from __future__ import annotations

from orchestrator.core.states import State
from orchestrator.engine.items import After, Held, OpenResponse, Queued
from orchestrator.engine.steps.context import Context
from orchestrator.engine.steps.settle import charged, unknown_charge
from orchestrator.policy.errors.judgement import may_resend
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.stores.writes import Ending

__all__ = ["doubt"]

# Replies get lost in waves: what is sent again at once is soon lost five times.
_BASE_S = 5.0


async def doubt(context: Context, open_: OpenResponse, code: str, message: str, *, counted: bool = True) -> After:
    """It may have been sent: send it again only where that is cheap, else hold it for the operator.

    ``counted`` is False where our own process died, or where all replies are lost: neither is the request's doing,
    and a run that is killed again and again must not lose rows by it.
    """
    spent = counted and open_.attempts >= context.settings.attempts
    may_send = not spent and not context.flow.cancelling
    resend = may_send and may_resend(open_.worst_case_pusd, below_pusd=context.settings.resend_below_pusd)
    now = context.clock.now()
    again_at = now + (retry_wait(open_.attempts, context.rng, base_s=_BASE_S) if counted else 0.0)
    await context.store.end(
        Ending(
            request_id=open_.request_id,
            attempt_id=open_.attempt_id,
            from_state=State.SUBMITTING,
            to=State.PENDING if resend else State.IN_DOUBT,
            at=now,
            code=code,
            message=message,
            charge=unknown_charge(open_) if resend else None,
            not_before=again_at,
            count_attempt=counted,
            possible_duplicate=resend,
        )
    )
    context.count(State.SUBMITTING, State.PENDING if resend else State.IN_DOUBT)
    if not resend:
        return Held()
    charged(context, open_, unknown_charge(open_))
    return Queued(again_at)
