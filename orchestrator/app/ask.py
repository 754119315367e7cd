"""Repeats calls that cost nothing to repeat, for as long as their errors are transient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from orchestrator.core.clock import Clock
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.provider_error import is_transient, message_of
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.verdicts import Halt
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.policy.rate_limits.limits import Limiter

__all__ = ["Again", "Retries", "call_with_retries"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Again:
    """The error is transient: repeat the call, after ``after_s`` at the earliest if the provider asks for that.

    ``rate_limited`` says that the limiter must count it.
    """

    message: str
    after_s: float | None = None
    rate_limited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """When to stop repeating a call: after this many attempts, or if the next one would come after ``timeout_s``.

    ``rate_limited_attempts`` applies to calls that the limiter delays; ``base_s`` is the first back-off.
    """

    attempts: int = 4
    rate_limited_attempts: int = 4
    base_s: float = 0.5
    timeout_s: float = 60.0


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
    retries: Retries = Retries(),
    limiter: Limiter | None = None,
) -> T | Problem:
    """Returns the answer, or the last problem if it is permanent or no attempt is left.

    ``judge`` decides which problems are worth another attempt; a ``limiter`` paces the calls.
    """
    began_at, attempts = clock.now(), 0
    while True:
        while limiter is not None and not limiter.take(now := clock.now(), 0):
            await clock.sleep_until(limiter.ready_at(now, 0))
        sent_at = clock.now()
        answer = await call()
        attempts += 1
        if not isinstance(answer, NeverSent | ReplyLost | Refused):
            if limiter is not None:
                limiter.learn(clock.now(), sent_at, None)
            return answer
        again = judge(answer)
        if again is None:
            return answer
        if limiter is not None and again.rate_limited:
            if attempts >= retries.rate_limited_attempts:
                return answer
            limiter.rate_limited(clock.now(), sent_at, retry_after_s=again.after_s)
            continue
        resume_at = clock.now() + retry_wait(attempts, rng, at_least_s=again.after_s, base_s=retries.base_s)
        if attempts >= retries.attempts or resume_at - began_at >= retries.timeout_s:
            return answer
        await clock.sleep_until(resume_at)
