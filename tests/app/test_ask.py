"""Calls that cost nothing are repeated while their errors are transient."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from orchestrator.app.ask import Retries, call_with_retries
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.testing import FakeClock

pytestmark = pytest.mark.anyio

BUSY = Refused(status=503, code="server_is_overloaded")


class Provider:
    """Gives these answers in turn, and the last one forever; ``asked_at`` holds the times of the calls."""

    def __init__(self, clock: FakeClock, *answers: str | Problem) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.asked_at: list[float] = []

    async def question(self) -> str | Problem:
        self.asked_at.append(self._clock.now())
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def asked(provider: Provider, clock: FakeClock, attempts: int = 4) -> str | Problem:
    """Returns the answer; the clock advances whenever a task waits for it."""
    found: list[str | Problem] = []
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            found.append(
                await call_with_retries(
                    provider.question, clock=clock, rng=Random(1), retries=Retries(attempts=attempts)
                )
            )
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        while True:
            await clock.advance_to_next()
    return found[0]


@pytest.mark.parametrize(
    "problem",
    [
        BUSY,
        NeverSent(reason="refused"),
        ReplyLost(reason="timeout"),
        Refused(status=429, code="rate_limit_exceeded"),
        Refused(status=400, should_retry=True),
    ],
)
async def test_a_transient_error_is_retried(problem: Problem) -> None:
    clock = FakeClock()
    provider = Provider(clock, problem, problem, "yes")
    assert await asked(provider, clock) == "yes"
    assert len(provider.asked_at) == 3


@pytest.mark.parametrize(
    "problem",
    [
        Refused(status=400),
        Refused(status=401, code="invalid_api_key"),
        Refused(status=404),
        Refused(status=429, code="insufficient_quota"),
        Refused(status=500, should_retry=False),
    ],
)
async def test_a_permanent_error_is_not_retried(problem: Problem) -> None:
    clock = FakeClock()
    provider = Provider(clock, problem)
    assert await asked(provider, clock) == problem
    assert len(provider.asked_at) == 1


async def test_after_the_last_attempt_the_problem_is_returned() -> None:
    clock = FakeClock()
    provider = Provider(clock, BUSY)
    assert await asked(provider, clock, attempts=6) == BUSY
    assert len(provider.asked_at) == 6


async def test_the_wait_is_no_shorter_than_retry_after() -> None:
    clock = FakeClock()
    provider = Provider(clock, Refused(status=429, retry_after_s=20.0), "yes")
    assert await asked(provider, clock) == "yes"
    first, second = provider.asked_at
    assert 20.0 <= second - first <= 25.0


async def test_a_wait_beyond_the_timeout_ends_the_retries() -> None:
    clock = FakeClock()
    busy = Refused(status=429, retry_after_s=3600.0)
    provider = Provider(clock, busy, "yes")
    assert await asked(provider, clock) == busy
