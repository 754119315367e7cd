"""Questions that cost nothing are asked again while what went wrong may pass, and no longer."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from orchestrator.app.ask import call_with_retries
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.testing import FakeClock

pytestmark = pytest.mark.anyio

BUSY = Refused(status=503, code="server_is_overloaded")


class Provider:
    """Gives these answers in turn, and the last one for ever; ``asked_at`` is when."""

    def __init__(self, clock: FakeClock, *answers: str | Problem) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.asked_at: list[float] = []

    async def question(self) -> str | Problem:
        self.asked_at.append(self._clock.now())
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def asked(provider: Provider, clock: FakeClock, **options: int) -> str | Problem:
    """The answer, with time moved on whenever somebody waits for it."""
    found: list[str | Problem] = []
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            found.append(await call_with_retries(lambda: provider.question(), clock=clock, rng=Random(1), **options))
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
async def test_what_may_pass_is_asked_again(problem: Problem) -> None:
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
async def test_what_would_come_again_is_asked_once(problem: Problem) -> None:
    clock = FakeClock()
    provider = Provider(clock, problem)
    assert await asked(provider, clock) == problem
    assert len(provider.asked_at) == 1


async def test_after_so_many_tries_the_problem_is_the_answer() -> None:
    clock = FakeClock()
    provider = Provider(clock, BUSY)
    assert await asked(provider, clock, tries=6) == BUSY
    assert len(provider.asked_at) == 6


async def test_the_wait_is_no_shorter_than_the_provider_asks_for() -> None:
    clock = FakeClock()
    provider = Provider(clock, Refused(status=429, retry_after_s=20.0), "yes")
    assert await asked(provider, clock) == "yes"
    first, second = provider.asked_at
    assert 20.0 <= second - first <= 25.0


async def test_a_wait_beyond_all_patience_is_not_waited() -> None:
    clock = FakeClock()
    busy = Refused(status=429, retry_after_s=3600.0)
    provider = Provider(clock, busy, "yes")
    assert await asked(provider, clock) == busy
