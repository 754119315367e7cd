"""Repeats calls that cost nothing to repeat, for as long as their errors are transient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.provider_error import is_transient, message_of
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.verdicts import Halt
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.policy.rate_limits.limits import Limiter

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["Again", "Retries", "call_with_retries"]

T = TypeVar("T")


@fast_dataclass(kw_only=False)
class Again:
    """The error is transient: repeat the call, after ``after_s`` at the earliest if the provider asks for that.

    ``rate_limited`` says that the limiter must count it.
    """

    message: str
    after_s: float | None = None
    rate_limited: bool = False


@fast_dataclass(kw_only=False)
class _Attempt(Generic[T]):
    """What a call returned, and how to repeat it; None if it must not be."""

    answer: T | Problem
    again: Again | None


@fast_dataclass
class Retries:
    """When to stop repeating a call: after this many attempts, or if the next one would come after ``timeout_s``.

    ``rate_limited_attempts`` applies to calls that the limiter delays; ``base_s`` is the first back-off.
    """

    attempts: int = 4
    rate_limited_attempts: int = 4
    base_s: float = 0.5
    timeout_s: float = 60.0


_READ = Retries()


def judge_read(problem: Problem) -> Again | None:
    """Whether to repeat a call that only reads; a lack of credit or permission is final, as it is for a run."""
    if not is_transient(problem) or isinstance(judge_poll(problem, age_s=0.0, misses=1, missing_s=0.0), Halt):
        return None
    after_s = problem.retry_after_s if isinstance(problem, Refused) else None
    return Again(message_of(problem), after_s)


async def call_with_retries(
    call: Callable[[], Awaitable[T | Problem]],
    *,
    clock: Clock,
    rng: Random,
    judge: Callable[[Problem], Again | None] = judge_read,
    retries: Retries = _READ,
    limiter: Limiter | None = None,
) -> T | Problem:
    """Returns the answer, or the last problem if it is permanent or no attempt is left.

    ``judge`` decides which problems are worth another attempt; a ``limiter`` paces the calls.
    """
    began_at = clock.now()

    def paced(again: Again) -> bool:
        return limiter is not None and again.rate_limited

    def wait_s(state: RetryCallState) -> float:
        again = _again(state)
        if paced(again):
            return 0.0
        return retry_wait(state.attempt_number, rng, at_least_s=again.after_s, base_s=retries.base_s)

    def stop(state: RetryCallState) -> bool:
        if paced(_again(state)):
            return state.attempt_number >= retries.rate_limited_attempts
        ends_at = clock.now() + state.upcoming_sleep
        return state.attempt_number >= retries.attempts or ends_at - began_at >= retries.timeout_s

    async def sleep(seconds: float) -> None:
        await clock.sleep_until(clock.now() + seconds)

    async def attempt() -> _Attempt[T]:
        sent_at = await _admitted(limiter, clock)
        answer = await call()
        again = judge(answer) if isinstance(answer, NeverSent | ReplyLost | Refused) else None
        if limiter is not None:
            _report(limiter, answer, again, sent_at=sent_at, now=clock.now())
        return _Attempt(answer, again)

    from tenacity import AsyncRetrying

    retrying = AsyncRetrying(
        retry=lambda state: _attempt(state).again is not None,
        wait=wait_s,
        stop=stop,
        sleep=sleep,
        retry_error_callback=_attempt,
    )
    last: _Attempt[T] = await retrying(attempt)
    return last.answer


async def _admitted(limiter: Limiter | None, clock: Clock) -> float:
    """Wait until the limiter admits a call; returns when it is sent."""
    while limiter is not None and not limiter.take(now := clock.now(), 0):
        await clock.sleep_until(limiter.ready_at(now, 0))
    return clock.now()


def _report(limiter: Limiter, answer: object, again: Again | None, *, sent_at: float, now: float) -> None:
    if again is not None and again.rate_limited:
        limiter.rate_limited(now, sent_at, retry_after_s=again.after_s)
    elif not isinstance(answer, NeverSent | ReplyLost | Refused):
        limiter.learn(now, sent_at, None)


def _attempt(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome is not None else None


def _again(state: RetryCallState) -> Again:
    again = _attempt(state).again
    return again if again is not None else Again("")
