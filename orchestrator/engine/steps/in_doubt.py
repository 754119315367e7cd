"""A request may have been sent and its reply was lost: send it again if that is cheap, or hold it."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import Event, State
from orchestrator.engine.funds import Funds, unknown_charge
from orchestrator.engine.items import After, AwaitsEvent, Held, OpenResponse, Queued
from orchestrator.engine.run_context import RunContext
from orchestrator.policy.errors.judgement import may_resend
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.stores.writes import Ending

__all__ = ["give_up_waiting", "resend_or_hold", "still_in_doubt"]

# Replies are lost in waves: a request that is sent again at once soon loses all its attempts.
_BASE_S = 5.0
_FREE_BASE_S = 0.5


@fast_dataclass(kw_only=False)
class _Loss:
    """A create whose reply was lost. ``counted``: its attempt counts against those that the request has."""

    open: OpenResponse
    code: str
    message: str
    counted: bool


async def resend_or_hold(
    run: RunContext, funds: Funds, open_: OpenResponse, code: str, message: str, *, counted: bool = True
) -> After:
    """The request may have been sent: send it again only if that is cheap, else hold it for the operator.

    With webhooks it waits first for an event that names its response. ``counted`` is False if this process died, or
    if all replies are lost: neither is the fault of the request, and a run that is killed again and again must not
    lose rows by it.
    """
    loss, resend = _Loss(open_, code, message, counted), _may_resend(run, open_, counted=counted)
    if resend and run.status.hints is None:
        return await _resend(run, funds, loss, State.SUBMITTING)
    await _end(run, loss, State.SUBMITTING, Event.LOSE)
    return _awaits_event(run, open_, counted=counted)


def still_in_doubt(run: RunContext, open_: OpenResponse) -> After:
    """An earlier process left the request in doubt: with webhooks, its event may still come."""
    return _awaits_event(run, open_, counted=False)


async def give_up_waiting(run: RunContext, funds: Funds, awaits: AwaitsEvent) -> After:
    """No event has named the response in time: send the request again, or hold it."""
    open_, counted = awaits.open, awaits.counted
    if not _may_resend(run, open_, counted=counted):
        return Held()
    loss = _Loss(open_, "submit_in_doubt", "its reply was lost, and no event named its response", counted)
    return await _resend(run, funds, loss, State.IN_DOUBT)


def _awaits_event(run: RunContext, open_: OpenResponse, *, counted: bool) -> After:
    hints = run.status.hints
    if hints is None or not run.status.may_send:
        return Held()
    return AwaitsEvent(open_, run.clock.now() + hints.wait_s(open_), counted)


def _may_resend(run: RunContext, open_: OpenResponse, *, counted: bool) -> bool:
    settings = open_.stage.settings
    spent = counted and open_.attempts >= settings.attempts
    may_send = not spent and not run.status.cancelling
    return may_send and may_resend(open_.worst_case_pusd, below_pusd=settings.resend_below_pusd)


async def _resend(run: RunContext, funds: Funds, loss: _Loss, source: State) -> After:
    open_ = loss.open
    # At a free server nothing can be paid for twice, and it is simply asked again.
    base_s = _FREE_BASE_S if open_.worst_case_pusd == 0 else _BASE_S
    again_at = run.clock.now() + (retry_wait(open_.attempts, run.rng, base_s=base_s) if loss.counted else 0.0)
    await _end(run, loss, source, Event.RETRY, not_before=again_at)
    funds.settle(open_.worst_case_pusd, unknown_charge(open_), open_.stage.name)
    return Queued(again_at)


async def _end(run: RunContext, loss: _Loss, source: State, event: Event, *, not_before: float = 0.0) -> None:
    resend = event is Event.RETRY
    await run.store.end(
        Ending(
            request_id=loss.open.request_id,
            attempt_id=loss.open.attempt_id,
            from_state=source,
            event=event,
            at=run.clock.now(),
            code=loss.code,
            message=loss.message,
            charge=unknown_charge(loss.open) if resend else None,
            not_before=not_before,
            count_attempt=loss.counted,
            possible_duplicate=resend,
        )
    )
    run.observation.moved(source, event)
