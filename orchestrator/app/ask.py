"""Ask the provider what may be asked again freely, because the question costs nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, stop_before_delay

from orchestrator.core.clock import Clock
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.verdicts import Halt
from orchestrator.policy.rate_limits.backoff import retry_wait

__all__ = ["call_with_retries"]

T = TypeVar("T")

# Other refusals of the 4xx would come again.
_PASSING = frozenset({408, 409, 423, 425, 429})
_FIRST_WAIT_S = 0.5
_PATIENCE_S = 60.0


async def call_with_retries(
    question: Callable[[], Awaitable[T | Problem]], *, clock: Clock, rng: Random, tries: int = 4
) -> T | Problem:
    """The answer; or the last problem, where none came within so many tries and a minute.

    What cannot pass is asked once. The waits are those of requests, drawn from ``rng``.
    """

    def wait_s(state: RetryCallState) -> float:
        problem = _result(state)
        at_least_s = problem.retry_after_s if isinstance(problem, Refused) else None
        return retry_wait(state.attempt_number, rng, at_least_s=at_least_s, base_s=_FIRST_WAIT_S)

    async def sleep(seconds: float) -> None:
        await clock.sleep_until(clock.now() + seconds)

    async def put() -> T | Problem:
        return await question()

    retrying = AsyncRetrying(
        retry=retry_if_result(_may_pass),
        stop=stop_after_attempt(tries) | stop_before_delay(_PATIENCE_S),
        wait=wait_s,
        sleep=sleep,
        retry_error_callback=_result,
    )
    return await retrying(put)


def _may_pass(answer: object) -> bool:
    match answer:
        case NeverSent() | ReplyLost():
            return True
        case Refused(status=status, should_retry=should_retry):
            # No money and no permission are judged as they are for a run.
            final = isinstance(judge_poll(answer, age_s=0.0, misses=1, missing_s=0.0), Halt)
            passing = status >= 500 or status in _PASSING if should_retry is None else should_retry
            return passing and not final
        case _:
            return False


def _result(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome is not None else None
