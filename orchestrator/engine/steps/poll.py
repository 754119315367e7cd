"""Look at an open response: settle it when it has ended, give it up when patience is at an end."""

from __future__ import annotations

from functools import partial

from orchestrator.core.model import Seen
from orchestrator.core.problems import NeverSent, Problem, Refused
from orchestrator.core.states import State
from orchestrator.engine.items import After, OpenResponse, Stopped, Waiting
from orchestrator.engine.steps.context import Context, record_failure, record_success, unreachable
from orchestrator.engine.steps.settle import end, settle, verdict_after_cancel
from orchestrator.policy.errors.judgement import judge_poll, may_resend
from orchestrator.policy.errors.verdicts import Expired, Fail, Halt, PollAgain, RateLimited, Retry
from orchestrator.policy.polling.deadlines import gives_up_at, grace_expired, overdue
from orchestrator.policy.polling.schedule import Watch
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.stores.writes import Counts

__all__ = ["first_poll", "poll"]

# A cancelled response is looked at this soon, and then as often.
_AFTER_CANCEL_S = 1.0
# Looks that bring nothing are repeated at growing intervals up to this one.
_LONGEST_MISS_S = 30.0


async def poll(context: Context, open_: OpenResponse) -> After:
    """Ask how a response is getting on, and settle it if it has ended."""
    if context.flow.cancelling and open_.cancelled_at is None:
        await _cancel(context, open_)
    sent_at = context.clock.now()
    answer = await context.executor.poll(open_.response_id)
    context.flow.heard |= not isinstance(answer, NeverSent)
    context.progress.polls += 1
    if isinstance(answer, Seen):
        record_success(context, context.poll_circuit, sent_at)
        # What it says about limits is about creates: looks have an allowance of their own.
        context.polls.learn(context.clock.now(), sent_at, None)
        return await _seen(context, open_, answer, sent_at)
    return await _not_seen(context, open_, answer, sent_at)


async def _seen(context: Context, open_: OpenResponse, seen: Seen, sent_at: float) -> After:
    response = seen.response
    now = context.clock.now()
    open_.misses, open_.missing_since = 0, None
    if open_.accepted_here:
        context.looks.seen()
    if response.ended:
        return await settle(context, open_, response)
    if response.status != open_.status:
        open_.status = response.status
        await context.store.note_status(open_.attempt_id, response.status)
    if (gone := await _patience(context, open_, now)) is not None:
        return gone
    return _next_poll(context, open_, sent_at, seen.poll_after_s)


async def _not_seen(context: Context, open_: OpenResponse, problem: Problem, sent_at: float) -> After:
    now = context.clock.now()
    open_.misses += 1
    judge = context.looks.judge if open_.accepted_here else partial(judge_poll, overrides=context.settings.overrides)
    verdict = judge(
        problem,
        age_s=now - open_.accepted_at,
        misses=open_.misses,
        missing_s=now - open_.missing_since if open_.missing_since is not None else 0.0,
    )
    match verdict:
        case Expired(message, code):
            return await end(context, open_, State.SUBMITTED, _after_expiry(context, open_, code, message))
        case Halt():
            return Stopped.by(verdict, collect=False)
        case RateLimited(after_s):
            context.progress.rate_limited += 1
            await context.store.add_counts(context.run.id, Counts(rate_limited=1))
            context.polls.rate_limited(
                now,
                sent_at,
                retry_after_s=after_s,
                limits=problem.rate_limits if isinstance(problem, Refused) else None,
                slow_down=verdict.slow_down,
            )
            return Waiting(open_, now, forced=True)
        case PollAgain(after_s):
            if verdict.missing and open_.missing_since is None:
                open_.missing_since = now
            if verdict.outage:
                record_failure(context, context.poll_circuit, sent_at, "provider", again=open_.misses > 1)
            if (away := unreachable(context, problem)) is not None:
                return away
            # In an outage nothing is given up: whether it ended well is only to be seen when the provider is back.
            if not context.poll_circuit.excuses(now) and (gone := await _patience(context, open_, now)) is not None:
                return gone
            wait_s = retry_wait(open_.misses, context.rng, at_least_s=after_s, cap_s=_LONGEST_MISS_S)
            return Waiting(open_, now + wait_s, forced=True)


async def _patience(context: Context, open_: OpenResponse, now: float) -> After | None:
    """Give an overdue response up: cancel it, look a little longer, then leave it to itself."""
    if open_.cancelled_at is None:
        open_.given_up = overdue(
            open_.status,
            accepted_at=open_.accepted_at,
            now=now,
            timeouts=context.settings.timeouts,
            window=open_.window,
        )
        if open_.given_up is not None:
            await _cancel(context, open_)
    elif grace_expired(cancelled_at=open_.cancelled_at, now=now):
        return await end(context, open_, State.SUBMITTED, verdict_after_cancel(open_))
    return None


def _after_expiry(context: Context, open_: OpenResponse, code: str, message: str) -> Retry | Fail:
    """The lost result may have been paid for: ask again without asking you only where that is cheap."""
    if may_resend(open_.worst_case_pusd, below_pusd=context.settings.resend_below_pusd):
        return Retry(code, message=message)
    return Fail(code, message)


async def _cancel(context: Context, open_: OpenResponse) -> None:
    """Ask the provider to cancel; what it answers is not trusted, the next look is."""
    open_.cancelled_at = context.clock.now()
    await context.executor.cancel(open_.response_id)


def first_poll(context: Context, open_: OpenResponse, seen: Seen | None) -> Waiting:
    """Begin to follow a response that was just accepted, or that an earlier process left open."""
    asked_s = (seen.poll_after_s if seen is not None else None) or 0.0
    schedule = context.schedules.of(open_.model)
    open_.watch = schedule.watch(open_.accepted_at, not_before=open_.accepted_at + asked_s)
    return _by_schedule(context, open_, open_.watch)


def _next_poll(context: Context, open_: OpenResponse, sent_at: float, poll_after_s: float | None) -> Waiting:
    if open_.cancelled_at is not None:
        return Waiting(open_, context.clock.now() + _AFTER_CANCEL_S, forced=True)
    watch = open_.watch
    context.schedules.of(open_.model).still_running(watch, sent_at, not_before=sent_at + (poll_after_s or 0.0))
    return _by_schedule(context, open_, watch)


def _by_schedule(context: Context, open_: OpenResponse, watch: Watch) -> Waiting:
    """As the schedule has it, but at the latest when patience with the response ends."""
    at_latest = gives_up_at(
        open_.status, accepted_at=open_.accepted_at, timeouts=context.settings.timeouts, window=open_.window
    )
    if at_latest < watch.due_at:
        return Waiting(open_, at_latest, forced=True)
    return Waiting(open_, watch.due_at)
