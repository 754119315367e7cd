"""End an attempt: judge the response, charge it once, and settle the request or queue it again."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Charge, Response
from orchestrator.core.problems import Problem, Refused
from orchestrator.core.states import SETTLED, State
from orchestrator.engine.items import After, AwaitingTools, Finished, OpenResponse, Queued, Stopped, Waiting
from orchestrator.engine.steps.context import Context, record_failure, record_success, warn_budget
from orchestrator.engine.steps.notify import notify_dependents, notify_settled
from orchestrator.job.requests.turns import continuation_of
from orchestrator.policy.errors.judgement import judge_response
from orchestrator.policy.errors.verdicts import CallTools, Cancelled, Continue, Fail, Halt, PollAgain, Retry, Succeed
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.wire import function_calls
from orchestrator.stores.reads import Continuation
from orchestrator.stores.writes import Ending

__all__ = ["charged", "context_tokens", "end", "settle", "unknown_charge", "verdict_after_cancel"]


async def settle(context: Context, open_: OpenResponse, response: Response) -> After:
    """Settle a response that has come to its end, whichever way we heard of it."""
    now = context.clock.now()
    verdict = judge_response(
        response,
        context.settings.answers,
        max_output_tokens=open_.max_output_tokens,
        repairs=open_.repairs,
        overrides=context.settings.overrides,
    )
    if isinstance(verdict, Cancelled) and open_.cancelled_at is not None:
        verdict = verdict_after_cancel(open_)
    if isinstance(verdict, Succeed | Fail | CallTools | Continue):
        record_success(context, context.response_circuit, open_.sent_at)
    match verdict:
        case PollAgain():
            return Waiting(open_, now + (verdict.after_s or 1.0), forced=True)
        case Retry(rate_limited=True):
            pool = context.pools.pool(open_.model)
            pool.rate_limited(now, open_.sent_at, retry_after_s=verdict.after_s, limits=None, slow_down=False)
        case Halt():
            stopped = Stopped.by(verdict, collect=True)
            context.flow.stop(stopped)
            await end(context, open_, State.SUBMITTED, Retry(verdict.code), response=response, blameless=True)
            return stopped
        case CallTools() if context.flow.cancelling:
            verdict = Cancelled("cancelled at your request")
    return await end(context, open_, State.SUBMITTED, verdict, response=response)


def verdict_after_cancel(open_: OpenResponse) -> Retry | Cancelled:
    """What becomes of a request whose response we cancelled ourselves."""
    if open_.given_up is None:
        return Cancelled("cancelled at your request")
    return Retry(open_.given_up, message="the response took too long and was given up")


async def end(
    context: Context,
    open_: OpenResponse,
    from_state: State,
    verdict: Succeed | Retry | CallTools | Continue | Fail | Cancelled,
    *,
    response: Response | None = None,
    problem: Problem | None = None,
    blameless: bool = False,
) -> After:
    """End an attempt with its charge, and settle its request or put it back into the queue.

    The attempt does not count in an outage, or where ``blameless`` says that the request had no part in it.
    """
    now = context.clock.now()
    created = from_state is State.SUBMITTED
    if created:
        _learn_latency(context, open_, response, now)
    charge = _charge(context, open_, response) if from_state is not State.SUBMITTING else None
    if context.flow.cancelling and isinstance(verdict, Retry | Continue):
        verdict = Cancelled("cancelled at your request")
    outage = isinstance(verdict, Retry) and verdict.outage and _outage(context, open_, verdict.code)
    counted = not (outage or blameless)
    goal = _destination(context, open_, verdict, response, now, counted=counted)
    followers = await context.store.end(
        Ending(
            request_id=open_.request_id,
            attempt_id=open_.attempt_id,
            from_state=from_state,
            to=goal.to,
            at=now,
            code=goal.code,
            message=goal.message,
            http_status=problem.status if isinstance(problem, Refused) else None,
            status=response.status if response is not None else None,
            model=response.model if response is not None else None,
            service_tier=response.service_tier if response is not None else None,
            completed_at=response.completed_at if response is not None else None,
            output_text=response.output_text if response is not None else None,
            body=response.body if response is not None else None,
            charge=charge,
            not_before=goal.not_before,
            renew_idempotency=created,
            count_attempt=counted,
            max_output_tokens=verdict.max_output_tokens if isinstance(verdict, Retry) else None,
            continuation=goal.continuation,
        )
    )
    if charge is not None:
        charged(context, open_, charge)
    else:
        context.budget.release(open_.worst_case_pusd or 0)
    context.count(from_state, goal.to)
    if goal.to is State.AWAITING_TOOLS and response is not None:
        return AwaitingTools(open_, function_calls(response.body), context_tokens(response))
    if goal.to not in SETTLED:
        return Queued(goal.not_before)
    status = response.status if response is not None else None
    notify_settled(context, open_, goal.to, goal.code, status=status, charge=charge)
    return Finished(unblocked=notify_dependents(context, followers))


def _destination(
    context: Context,
    open_: OpenResponse,
    verdict: Succeed | Retry | CallTools | Continue | Fail | Cancelled,
    response: Response | None,
    now: float,
    *,
    counted: bool,
) -> _Destination:
    match verdict:
        case Succeed():
            return _Destination(State.SUCCEEDED)
        case Fail(code, message):
            return _Destination(State.FAILED, code, message)
        case Cancelled(message, code):
            return _Destination(State.CANCELLED, code, message)
        case CallTools():
            return _Destination(State.AWAITING_TOOLS)
        case Continue(code, items, message):
            tokens = context_tokens(response) if response is not None else 0
            continuation = Continuation(fields=continuation_of(open_.response_id, items), context_tokens=tokens)
            return _Destination(State.PENDING, code, message, now, continuation)
        case Retry():
            attempts = min(context.settings.attempts, verdict.most_attempts or context.settings.attempts)
            if counted and open_.attempts >= attempts:
                message = f"{attempts} attempts, the last ended with {verdict.code}: {verdict.message}".rstrip(": ")
                return _Destination(State.FAILED, "attempts_exhausted", message)
            wait_s = retry_wait(open_.attempts, context.rng, at_least_s=verdict.after_s, base_s=verdict.base_s)
            return _Destination(State.PENDING, verdict.code, verdict.message, now + wait_s)


def _learn_latency(context: Context, open_: OpenResponse, response: Response | None, now: float) -> None:
    schedule = context.schedules.of(open_.model)
    if response is None:
        schedule.drop(open_.watch)
        return
    began, ended = response.created_at, response.completed_at
    schedule.ended(open_.watch, now, took_s=ended - began if began is not None and ended is not None else None)


def _outage(context: Context, open_: OpenResponse, code: str) -> bool:
    """Tell the circuit of a failure that is the provider's; True where everything fails."""
    circuit = context.response_circuit if open_.response_id else context.create_circuit
    record_failure(context, circuit, open_.sent_at, code, again=open_.attempts > 1)
    return circuit.excuses(context.clock.now())


def _charge(context: Context, open_: OpenResponse, response: Response | None) -> Charge:
    if response is None:
        return unknown_charge(open_)
    return context.prices.charge_response(
        response,
        requested_model=open_.model,
        requested_tier=open_.service_tier,
        at=open_.sent_at,
        window=open_.window,
        worst_case=open_.worst_case_pusd,
    )


def charged(context: Context, open_: OpenResponse, charge: Charge) -> None:
    """Turn what was set aside into what was spent; an unknown cost stays set aside at its upper bound."""
    reserved = open_.worst_case_pusd or 0
    progress = context.progress
    if charge.usage is not None:
        progress.usage += charge.usage
    if charge.cost_pusd is None:
        progress.cost_unknown += 1
        crossed = context.budget.hold(reserved, charge.upper_bound_pusd)
    else:
        progress.cost_pusd += charge.cost_pusd
        crossed = context.budget.settle(reserved, charge.cost_pusd)
    progress.reserved_pusd = context.budget.reserved_pusd
    warn_budget(context, crossed)


@fast_dataclass(kw_only=False)
class _Destination:
    """Where a request goes when its attempt ends."""

    to: State
    code: str | None = None
    message: str | None = None
    not_before: float = 0.0
    continuation: Continuation | None = None


def context_tokens(response: Response) -> int:
    """The tokens that the model reads again when it goes on from a response: all that it read and wrote."""
    return response.usage.total_tokens if response.usage is not None else 0


def unknown_charge(open_: OpenResponse) -> Charge:
    """Something may have been spent, nobody knows what: never zero, and never more than was set aside."""
    return Charge(usage=None, cost_pusd=None, upper_bound_pusd=open_.worst_case_pusd, price=None)
