"""Poll an open response: settle it if it has ended, give it up if it takes too long."""

from __future__ import annotations

from functools import partial

from orchestrator.core.model import Seen
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.states import State
from orchestrator.engine.closed_endpoints import halt_without_polls
from orchestrator.engine.identity import ReplyIdentity
from orchestrator.engine.items import After, Halted, OpenResponse, Waiting
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps.settle import LANE_CHANGED, Settle, verdict_after_cancel
from orchestrator.policy.errors.first_tries import PollRefusals
from orchestrator.policy.errors.judgement import judge_poll, may_resend
from orchestrator.policy.errors.verdicts import Expired, Fail, Halt, PollAgain, PollVerdict, RateLimited, Retry
from orchestrator.policy.polling.deadlines import gives_up_at, grace_expired, overdue
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.stores.writes import Counts

__all__ = ["Poll", "first_poll"]

# How long after a cancel the response is polled, and how often from then on.
_AFTER_CANCEL_S = 1.0
# Polls that bring nothing are repeated at growing intervals up to this one.
_LONGEST_MISS_S = 30.0


class Poll:
    """Polls open responses."""

    def __init__(self, run: RunContext, settle: Settle) -> None:
        self._run = run
        self._settle = settle
        self._identity = ReplyIdentity(run)
        self._refusals = [PollRefusals() for _ in run.endpoints]

    async def poll(self, open_: OpenResponse) -> After:
        """Ask for the state of a response, and settle it if it has ended."""
        run = self._run
        endpoint = run.endpoints[open_.endpoint]
        outages = endpoint.outages
        if open_.cancelled_at is None and (run.status.cancelling or open_.lane in open_.stage.cancelled_lanes):
            open_.given_up = None if run.status.cancelling else LANE_CHANGED
            await self._cancel(open_)
        sent_at = run.clock.now()
        answer = await endpoint.executors.of(open_.lane).poll(open_.response_id)
        outages.reached |= not isinstance(answer, NeverSent)
        run.observation.progress.polls += 1
        if isinstance(answer, Seen):
            outages.record_success(outages.polls, sent_at)
            endpoint.polls_refused = False
            # Its headers about limits are about creates: polls have an allowance of their own.
            endpoint.allowances.polls.learn(run.clock.now(), sent_at, None)
            flaw = await self._identity.flaw_of_poll(open_, answer.response)
            if flaw is None:
                return await self._seen(open_, answer, sent_at)
            answer = ReplyLost(reason=flaw, status=200, unreadable=True)
        return await self._not_seen(open_, answer, sent_at)

    async def _seen(self, open_: OpenResponse, seen: Seen, sent_at: float) -> After:
        response = seen.response
        open_.misses, open_.missing_since, open_.unreadable, open_.shows_nothing = 0, None, 0, False
        self._refusals[open_.endpoint].seen()
        self._found(open_)
        if not open_.accepted_here and self._run.endpoints[open_.endpoint].resumed_polls.found():
            self._run.status.send_signal.set()
        if response.ended:
            return await self._settle.settle(open_, response)
        if response.status != open_.status:
            open_.status = response.status
            await self._run.store.note_status(open_.attempt_id, response.status)
        # What this poll saw is as old as its sending: it says nothing about a timeout that passed on its way.
        if (given_up := await self._give_up_overdue(open_, sent_at)) is not None:
            return given_up
        return self._next_poll(open_, sent_at, seen.poll_after_s)

    def _found(self, open_: OpenResponse) -> None:
        """Record that the server keeps the response."""
        first_polls = open_.stage.first_polls[open_.endpoint]
        if not first_polls.has_seen:
            first_polls.seen()
            self._run.status.send_signal.set()

    def _next_poll(self, open_: OpenResponse, sent_at: float, poll_after_s: float | None) -> Waiting:
        if open_.cancelled_at is not None:
            return Waiting(open_, self._run.clock.now() + _AFTER_CANCEL_S, forced=True)
        schedule = open_.stage.schedules.of(open_.model)
        schedule.still_running(open_.watch, sent_at, not_before=sent_at + (poll_after_s or 0.0))
        return _by_schedule(open_)

    async def _not_seen(self, open_: OpenResponse, problem: Problem, sent_at: float) -> After:
        now = self._run.clock.now()
        open_.misses += 1
        # The server answers, only not with a response.
        open_.shows_nothing = isinstance(problem, ReplyLost) and problem.status is not None
        open_.unreadable += isinstance(problem, ReplyLost) and problem.unreadable
        if isinstance(problem, ReplyLost) and problem.response_id == open_.response_id:
            # Only this reply was too large or broke off: that concerns no other row.
            self._found(open_)
        verdict = self._judge(open_, problem, now)
        match verdict:
            case Expired(message, code):
                return await self._settle.end(open_, State.SUBMITTED, _after_expiry(open_, code, message))
            case Fail():
                return await self._settle.end(open_, State.SUBMITTED, verdict)
            case Halt():
                return self._refused(open_, Halted.by(verdict, collect=False))
            case RateLimited():
                await self._rate_limited(open_, verdict, problem, now, sent_at)
                return Waiting(open_, now + (verdict.after_s or 0.0), forced=True)
            case PollAgain():
                return await self._missed(open_, verdict, problem, now, sent_at)

    def _refused(self, open_: OpenResponse, halted: Halted) -> Halted | Waiting:
        """The endpoint takes no polls: the run halts unless there is more to do at others."""
        again = halt_without_polls(self._run, open_.endpoint, halted)
        return again if isinstance(again, Halted) else Waiting(open_, again, forced=True)

    async def _rate_limited(
        self, open_: OpenResponse, verdict: RateLimited, problem: Problem, now: float, sent_at: float
    ) -> None:
        self._run.observation.progress.rate_limited += 1
        await self._run.store.add_counts(self._run.record.id, Counts(rate_limited=1))
        self._run.endpoints[open_.endpoint].allowances.polls.rate_limited(
            now,
            sent_at,
            retry_after_s=verdict.after_s,
            limits=problem.rate_limits if isinstance(problem, Refused) else None,
            slow_down=verdict.slow_down,
        )

    async def _missed(
        self, open_: OpenResponse, verdict: PollAgain, problem: Problem, now: float, sent_at: float
    ) -> After:
        """Poll again later, unless the provider was never there or the response takes too long."""
        endpoint = self._run.endpoints[open_.endpoint]
        outages = endpoint.outages
        if verdict.missing and open_.missing_since is None:
            open_.missing_since = now
        if verdict.outage:
            outages.record_failure(outages.polls, sent_at, "provider", again=open_.misses > 1)
        if (halted := outages.unreachable(problem)) is not None:
            return self._refused(open_, halted)
        # Nothing is given up in an outage, because only when the provider is back can a poll see whether it ended
        # well, nor at what may be another provider.
        unsure = verdict.missing and not open_.accepted_here and endpoint.resumed_polls.is_unsure
        excused = unsure or outages.polls.excuses(now)
        if not excused and (given_up := await self._give_up_overdue(open_, sent_at)) is not None:
            return given_up
        wait_s = retry_wait(open_.misses, self._run.rng, at_least_s=verdict.after_s, cap_s=_LONGEST_MISS_S)
        return Waiting(open_, now + wait_s, forced=True)

    def _judge(self, open_: OpenResponse, problem: Problem, now: float) -> PollVerdict:
        endpoint = self._run.endpoints[open_.endpoint]
        judge = (
            open_.stage.first_polls[open_.endpoint].judge
            if open_.accepted_here
            else partial(judge_poll, overrides=endpoint.overrides)
        )
        verdict = judge(
            problem,
            age_s=now - open_.accepted_at,
            misses=open_.misses,
            missing_s=now - open_.missing_since if open_.missing_since is not None else 0.0,
            unreadable=open_.unreadable,
        )
        if not open_.accepted_here:
            verdict = endpoint.resumed_polls.judge(open_.response_id, verdict, misses=open_.misses)
        return self._refusals[open_.endpoint].judge(problem, verdict, now=now)

    async def _give_up_overdue(self, open_: OpenResponse, now: float) -> After | None:
        """Give an overdue response up: cancel it, poll it for a short grace period, then end the attempt."""
        if open_.cancelled_at is None:
            open_.given_up = overdue(
                open_.status,
                accepted_at=open_.accepted_at,
                now=now,
                timeouts=open_.stage.settings.timeouts,
                window=open_.window,
            )
            if open_.given_up is not None:
                await self._cancel(open_)
        elif grace_expired(cancelled_at=open_.cancelled_at, now=now):
            return await self._settle.end(open_, State.SUBMITTED, verdict_after_cancel(open_))
        return None

    async def _cancel(self, open_: OpenResponse) -> None:
        """Ask the provider to cancel; the next poll decides, not the answer to this."""
        open_.cancelled_at = self._run.clock.now()
        executor = self._run.endpoints[open_.endpoint].executors.of(open_.lane)
        if executor.capabilities.cancel:
            await executor.cancel(open_.response_id)


def _after_expiry(open_: OpenResponse, code: str, message: str) -> Retry | Fail:
    """The lost result may have been paid for: send the request again without the operator only if that is cheap."""
    if may_resend(open_.worst_case_pusd, below_pusd=open_.stage.settings.resend_below_pusd):
        return Retry(code, message=message)
    return Fail(code, message)


def first_poll(open_: OpenResponse, seen: Seen | None) -> Waiting:
    """Schedule the first poll of a response that was just accepted, or that an earlier process left open."""
    asked_s = (seen.poll_after_s if seen is not None else None) or 0.0
    schedule = open_.stage.schedules.of(open_.model)
    open_.watch = schedule.watch(open_.accepted_at, not_before=open_.accepted_at + asked_s)
    return _by_schedule(open_)


def _by_schedule(open_: OpenResponse) -> Waiting:
    """When the schedule says, but no later than the response's timeout."""
    at_latest = gives_up_at(
        open_.status, accepted_at=open_.accepted_at, timeouts=open_.stage.settings.timeouts, window=open_.window
    )
    due_at = open_.watch.due_at
    return Waiting(open_, at_latest, forced=True) if at_latest < due_at else Waiting(open_, due_at)
