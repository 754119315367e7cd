"""End an attempt: judge the response, charge it once, and settle the request or queue it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from orchestrator.core.errors import CODES
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.core.model import Response
from orchestrator.core.problems import Problem, Refused, ReplyLost
from orchestrator.core.states import SETTLED, Event, State
from orchestrator.engine.closed_endpoints import close
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, AwaitingTools, Finished, Halted, OpenResponse, Queued, Waiting
from orchestrator.engine.run_context import RunContext
from orchestrator.job.requests.turns import continuation_of
from orchestrator.policy.errors.error_rules import Override
from orchestrator.policy.errors.judgement import judge_response
from orchestrator.policy.errors.verdicts import (
    CallTools,
    Cancelled,
    Continue,
    Fail,
    Halt,
    PollAgain,
    ResponseVerdict,
    Retry,
    Succeed,
)
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.wire import function_calls
from orchestrator.stores.reads import Continuation
from orchestrator.stores.writes import Ending

__all__ = ["LANE_CHANGED", "Settle", "context_tokens", "verdict_after_cancel"]

# Why a response was given up: too little time was left for its lane.
LANE_CHANGED = "lane_changed"

_Verdict: TypeAlias = Succeed | Retry | CallTools | Continue | Fail | Cancelled


class Settle:
    """Ends attempts, by a response that has ended or by what went wrong."""

    def __init__(self, run: RunContext, funds: Funds) -> None:
        self._run = run
        self._funds = funds

    async def settle(self, open_: OpenResponse, response: Response) -> After:
        """Settle a response that has ended, whether a poll or the create call has brought it."""
        run = self._run
        endpoint = run.endpoints[open_.endpoint]
        verdict = _judge(open_, response, endpoint.overrides)
        if isinstance(verdict, Cancelled) and open_.cancelled_at is not None:
            verdict = verdict_after_cancel(open_)
        if isinstance(verdict, Succeed | Fail | CallTools | Continue):
            endpoint.outages.record_success(endpoint.outages.responses, open_.sent_at)
        match verdict:
            case PollAgain():
                return Waiting(open_, run.clock.now() + (verdict.after_s or 1.0), forced=True)
            case Retry(rate_limited=True):
                endpoint.allowances.pools.pool(open_.model).rate_limited(
                    run.clock.now(), open_.sent_at, retry_after_s=verdict.after_s, limits=None, slow_down=False
                )
            case Halt():
                halted = close(run, open_.endpoint, Halted.by(verdict, collect=True))
                if halted is not None:
                    # Before anything is written: what is sent meanwhile would end the same way.
                    run.status.halt(halted)
                again = Retry(verdict.code)
                after = await self.end(open_, State.SUBMITTED, again, response=response, blameless=True)
                return halted or after
            case CallTools() if run.status.cancelling:
                verdict = Cancelled("cancelled at your request")
        return await self.end(open_, State.SUBMITTED, verdict, response=response)

    async def end(
        self,
        open_: OpenResponse,
        from_state: State,
        verdict: _Verdict,
        *,
        response: Response | None = None,
        problem: Problem | None = None,
        blameless: bool = False,
        possible_duplicate: bool = False,
    ) -> After:
        """End an attempt with its charge, and settle its request or queue it again.

        The attempt does not count in an outage, or if it is ``blameless``: the request did not cause its end. It is a
        ``possible_duplicate`` if its response may exist and the request is asked again.
        """
        run, funds, observation = self._run, self._funds, self._run.observation
        now = run.clock.now()
        created = from_state is State.SUBMITTED
        in_batch = open_.lane is Lane.BATCH
        if created and not in_batch:
            _learn_latency(open_, response, now)
        # Without a readable reply to the create, a response may exist and cost money.
        spent = isinstance(problem, ReplyLost) or (problem is None and from_state is not State.SUBMITTING)
        charge = funds.charge(open_, response) if spent else None
        # A request whose create failed goes back to the queue, where the cancel finds it.
        if created and run.status.cancelling and isinstance(verdict, Retry | Continue):
            verdict = Cancelled("cancelled at your request")
        outage = isinstance(verdict, Retry) and verdict.outage and self._in_outage(open_, verdict.code)
        counted = not (outage or blameless or open_.given_up == LANE_CHANGED)
        goal = self._move_by(open_, verdict, response, now, counted=counted)
        moved = await run.store.end(
            Ending(
                request_id=open_.request_id,
                attempt_id=open_.attempt_id,
                from_state=from_state,
                event=goal.event,
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
                possible_duplicate=possible_duplicate and goal.event is Event.RETRY,
                response_id=open_.response_id or None if in_batch else None,
                max_output_tokens=verdict.max_output_tokens if isinstance(verdict, Retry) else None,
                continuation=goal.continuation,
            )
        )
        if open_.adopted:
            charge = None  # another run has reserved and pays for it
        else:
            funds.settle(open_.worst_case_pusd, charge if moved is not None else None, open_.stage.name)
        if moved is None:  # another run has taken the response over: its answer comes from there
            return Finished()
        to = observation.moved(from_state, goal.event)
        if goal.event is Event.CALL and response is not None:
            return AwaitingTools(open_, function_calls(response.body), context_tokens(response))
        if to not in SETTLED:
            return Queued(goal.not_before)
        open_.stage.cache_is_warm = True
        status = response.status if response is not None else None
        observation.settled(open_, to, goal.code, status=status, charge=charge)
        return Finished(unblocked=observation.dependents(moved))

    def _move_by(
        self, open_: OpenResponse, verdict: _Verdict, response: Response | None, now: float, *, counted: bool
    ) -> _Move:
        match verdict:
            case Succeed():
                return _Move(Event.SUCCEED)
            case Fail(code, message):
                return _Move(Event.FAIL, code, message)
            case Cancelled(message, code):
                return _Move(Event.CANCEL, code, message)
            case CallTools():
                return _Move(Event.CALL)
            case Continue(code, items, message):
                tokens = context_tokens(response) if response is not None else 0
                continuation = Continuation(fields=continuation_of(open_.response_id, items), context_tokens=tokens)
                return _Move(Event.CONTINUE, code, message, now, continuation)
            case Retry():
                return self._retry(open_, verdict, now, counted=counted)

    def _retry(self, open_: OpenResponse, verdict: Retry, now: float, *, counted: bool) -> _Move:
        attempts = open_.stage.settings.attempts
        attempts = min(attempts, verdict.most_attempts or attempts)
        if counted and open_.attempts >= attempts:
            message = f"{attempts} attempts, the last ended with {verdict.code}: {verdict.message}".rstrip(": ")
            return _Move(Event.FAIL, "attempts_exhausted", message)
        wait_s = retry_wait(open_.attempts, self._run.rng, at_least_s=verdict.after_s, base_s=verdict.base_s)
        return _Move(Event.RETRY, verdict.code, verdict.message, now + wait_s)

    def _in_outage(self, open_: OpenResponse, code: str) -> bool:
        """Record a failure that is the provider's fault; True while everything fails."""
        outages = self._run.endpoints[open_.endpoint].outages
        breaker = outages.responses if open_.response_id else outages.creates
        outages.record_failure(breaker, open_.sent_at, code, again=open_.attempts > 1)
        return breaker.excuses(self._run.clock.now())


def _judge(open_: OpenResponse, response: Response, overrides: Sequence[Override]) -> ResponseVerdict:
    settings = open_.stage.settings
    try:
        return judge_response(
            response,
            settings.answers,
            max_output_tokens=open_.max_output_tokens,
            repairs=open_.repairs,
            overrides=overrides,
        )
    except Exception as error:  # noqa: BLE001  # one answer must not stop the others; its text may quote a prompt
        return Fail("answer_invalid", f"{CODES['answer_invalid']} ({type(error).__name__})")


def verdict_after_cancel(open_: OpenResponse) -> Retry | Cancelled | Fail:
    """How a request ends whose response orchestrator cancelled itself."""
    if open_.given_up is None:
        return Cancelled("cancelled at your request")
    if open_.shows_nothing:
        # It may have ended well and been paid for; another attempt could end the same way.
        return Fail("unreadable_reply", "until it was given up, the provider's replies were not readable")
    if open_.given_up == LANE_CHANGED:
        return Retry(LANE_CHANGED, message="too little time was left for its lane, so it is asked for in another")
    return Retry(open_.given_up, message="the response took too long and was given up")


def _learn_latency(open_: OpenResponse, response: Response | None, now: float) -> None:
    schedule = open_.stage.schedules.of(open_.model)
    if response is None:
        schedule.drop(open_.watch)
        return
    began, ended = response.created_at, response.completed_at
    if open_.lane in WINDOWS and began is not None and ended is not None:
        open_.stage.took.append((open_.model, open_.lane, ended - began))
    schedule.ended(open_.watch, now, took_s=ended - began if began is not None and ended is not None else None)


@fast_dataclass(kw_only=False)
class _Move:
    """Where a request goes when its attempt ends."""

    event: Event
    code: str | None = None
    message: str | None = None
    not_before: float = 0.0
    continuation: Continuation | None = None


def context_tokens(response: Response) -> int:
    """The tokens that the model reads again in a turn after a response: all that it read and wrote."""
    return response.usage.total_tokens if response.usage is not None else 0
