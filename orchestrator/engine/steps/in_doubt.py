"""A request may have been sent and its reply was lost: send it again if that is cheap, or hold it."""

from __future__ import annotations

from orchestrator.core.states import Event, State
from orchestrator.engine.funds import Funds, unknown_charge
from orchestrator.engine.items import After, Held, OpenResponse, Queued
from orchestrator.engine.run_context import RunContext
from orchestrator.policy.errors.judgement import may_resend
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.stores.writes import Ending

__all__ = ["resend_or_hold"]

# Replies are lost in waves: a request that is sent again at once soon loses all its attempts.
_BASE_S = 5.0
_FREE_BASE_S = 0.5


async def resend_or_hold(
    run: RunContext, funds: Funds, open_: OpenResponse, code: str, message: str, *, counted: bool = True
) -> After:
    """The request may have been sent: send it again only if that is cheap, else hold it for the operator.

    ``counted`` is False if this process died, or if all replies are lost: neither is the fault of the request, and a
    run that is killed again and again must not lose rows by it.
    """
    settings = open_.stage.settings
    spent = counted and open_.attempts >= settings.attempts
    may_send = not spent and not run.status.cancelling
    resend = may_send and may_resend(open_.worst_case_pusd, below_pusd=settings.resend_below_pusd)
    event = Event.RETRY if resend else Event.LOSE
    now = run.clock.now()
    # At a free server nothing can be paid for twice, and it is simply asked again.
    base_s = _FREE_BASE_S if open_.worst_case_pusd == 0 else _BASE_S
    again_at = now + (retry_wait(open_.attempts, run.rng, base_s=base_s) if counted else 0.0)
    await run.store.end(
        Ending(
            request_id=open_.request_id,
            attempt_id=open_.attempt_id,
            from_state=State.SUBMITTING,
            event=event,
            at=now,
            code=code,
            message=message,
            charge=unknown_charge(open_) if resend else None,
            not_before=again_at,
            count_attempt=counted,
            possible_duplicate=resend,
        )
    )
    run.observation.moved(State.SUBMITTING, event)
    if not resend:
        return Held()
    funds.settle(open_.worst_case_pusd, unknown_charge(open_), open_.stage.name)
    return Queued(again_at)
