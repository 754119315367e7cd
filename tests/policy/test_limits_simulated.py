"""The limiter against simulated providers: how much of an allowance it uses, and how many calls are refused."""

from __future__ import annotations

import heapq
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import pytest

from orchestrator.core.model import RateLimits
from orchestrator.policy.rate_limits import pace
from orchestrator.policy.rate_limits.limits import Limiter

START = 1_700_000_000.0


class Bucket:
    """Refills steadily and holds ``holds_s`` seconds' worth."""

    def __init__(self, per_minute: int, holds_s: float = 60.0) -> None:
        self.per_minute = per_minute
        self._capacity = max(1.0, per_minute * holds_s / 60.0)
        self._level = self._capacity
        self._at = START

    def wait_s(self, now: float, amount: int) -> float:
        """Returns 0 if the amount is taken, else how long to wait for it."""
        self._level = min(self._capacity, self._level + (now - self._at) * self.per_minute / 60.0)
        self._at = now
        if self._level < amount:
            return (amount - self._level) * 60.0 / self.per_minute
        self._level -= amount
        return 0.0

    @property
    def remaining(self) -> int:
        return int(self._level)


class FixedWindow:
    """Counts from zero in each window of the clock."""

    def __init__(self, per_minute: int, window_s: float = 60.0) -> None:
        self.per_minute = per_minute
        self._window_s = window_s
        self._number = self._used = 0

    def wait_s(self, now: float, amount: int) -> float:
        number = int(now / self._window_s)
        if number != self._number:
            self._number, self._used = number, 0
        if self._used + amount > self.per_minute * self._window_s / 60.0:
            return (number + 1) * self._window_s - now
        self._used += amount
        return 0.0

    @property
    def remaining(self) -> int:
        return int(self.per_minute * self._window_s / 60.0) - self._used


class SlidingWindow:
    """Counts exactly the last minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._calls: deque[tuple[float, int]] = deque()
        self._used = 0

    def wait_s(self, now: float, amount: int) -> float:
        while self._calls and self._calls[0][0] <= now - 60.0:
            self._used -= self._calls.popleft()[1]
        if self._used + amount > self.per_minute:
            return self._calls[0][0] + 60.0 - now
        self._calls.append((now, amount))
        self._used += amount
        return 0.0

    @property
    def remaining(self) -> int:
        return self.per_minute - self._used


Counter = Bucket | FixedWindow | SlidingWindow


@dataclass(slots=True)
class Outcome:
    """What a provider saw: when it accepted calls (seconds since the start), and how many it refused."""

    accepted_at: list[float]
    refused: int = 0
    ended_at: float = math.inf

    @property
    def share_refused(self) -> float:
        return self.refused / (self.refused + len(self.accepted_at))

    def used(self, since_s: float, until_s: float, per_minute: int) -> float:
        """Returns the share of the allowance that was used."""
        accepted = sum(since_s <= at < until_s for at in self.accepted_at)
        return accepted * 60.0 / (per_minute * (until_s - since_s))


@dataclass(kw_only=True)
class Provider:
    """A provider behind a network with a mean ``round_trip_s``; each way varies by half.

    ``reports`` sends the headers, ``chance`` is the share of calls refused whatever their rate, ``others`` are calls
    per minute by other processes. Refusals ask to wait whole seconds, at least one; with ``slow_downs`` they say
    ``slow_down`` instead.
    """

    counter: Counter
    round_trip_s: float = 0.05
    reports: bool = False
    chance: float = 0.0
    others: float = 0.0
    slow_downs: bool = False

    def serve(
        self, limiter: Limiter, *, seconds: float, rows: int | None = None, tokens: int = 0, seed: int
    ) -> Outcome:
        """Send as fast as the limiter allows, for so many seconds or until so many rows are accepted."""
        draws, outcome = Random(seed), Outcome([])
        events: list[tuple[float, int, str, float, float]] = [(START, 0, "wake", 0.0, 0.0)]
        order, open_rows = 0, math.inf if rows is None else rows

        def after(at: float, what: str, sent_at: float = 0.0, wait_s: float = 0.0) -> None:
            nonlocal order
            order += 1
            heapq.heappush(events, (at, order, what, sent_at, wait_s))

        def travel_s() -> float:
            return self.round_trip_s * draws.uniform(0.25, 0.75)

        if self.others:
            after(START, "other")
        wakes = 1
        while events and events[0][0] <= START + seconds:
            now, _, what, sent_at, wait_s = heapq.heappop(events)
            if what == "other":
                self.counter.wait_s(now, 1)
                after(now + 60.0 / self.others, "other")
                continue
            if what == "arrive":
                wait_s = self._answer(now, tokens, draws)
                outcome.accepted_at += [now - START] * (not wait_s)
                after(now + travel_s(), "reply", sent_at, wait_s)
                continue
            if what == "reply":
                limits = self._headers(tokens)
                if wait_s:
                    outcome.refused += 1
                    open_rows += 1
                    after_s = None if self.slow_downs else max(1.0, math.ceil(wait_s))
                    limiter.rate_limited(
                        now, sent_at, retry_after_s=after_s, limits=limits, slow_down=self.slow_downs
                    )
                else:
                    limiter.learn(now, sent_at, limits)
                if len(outcome.accepted_at) == rows:
                    outcome.ended_at = now - START
                    break
            else:
                wakes -= 1
            while open_rows and limiter.take(now, tokens):
                open_rows -= 1
                after(now + travel_s(), "arrive", now)
            if open_rows and not wakes:
                after(limiter.ready_at(now, tokens) + 0.0005, "wake")
                wakes += 1
        return outcome

    def _answer(self, now: float, tokens: int, draws: Random) -> float:
        wait_s = self.counter.wait_s(now, max(1, tokens))
        return 1.0 if not wait_s and draws.random() < self.chance else wait_s

    def _headers(self, tokens: int) -> RateLimits | None:
        if not self.reports:
            return None
        limit, remaining = self.counter.per_minute, self.counter.remaining
        if tokens:
            return RateLimits(limit_tokens=limit, remaining_tokens=remaining)
        return RateLimits(limit_requests=limit, remaining_requests=remaining)


def a_limiter(requests: int | None = None, tokens: int | None = None, *, burst_s: float = 1.0) -> Limiter:
    return Limiter(requests_per_minute=requests, tokens_per_minute=tokens, now=START, burst_s=burst_s)


COUNTERS: dict[str, Callable[[int], Counter]] = {
    "a bucket of a minute": Bucket,
    "a bucket of ten seconds": lambda per_minute: Bucket(per_minute, 10.0),
    "a bucket of a second": lambda per_minute: Bucket(per_minute, 1.0),
    "fixed minutes": FixedWindow,
    "fixed ten seconds": lambda per_minute: FixedWindow(per_minute, 10.0),
    "a sliding minute": SlidingWindow,
}


@pytest.mark.parametrize("reports", [False, True], ids=["silent", "reporting"])
@pytest.mark.parametrize("round_trip_s", [0.05, 0.4])
@pytest.mark.parametrize("counter", COUNTERS)
def test_a_known_limit_is_used_with_few_refusals(counter: str, round_trip_s: float, reports: bool) -> None:
    provider = Provider(counter=COUNTERS[counter](1200), round_trip_s=round_trip_s, reports=reports)
    outcome = provider.serve(a_limiter(1200), seconds=130.0, seed=1)
    assert outcome.used(10.0, 130.0, 1200) >= 0.95
    assert outcome.share_refused < 0.005


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_limit_reported_in_headers_is_used_like_a_known_one(counter: str) -> None:
    outcome = Provider(counter=COUNTERS[counter](1200), reports=True).serve(a_limiter(), seconds=130.0, seed=2)
    assert outcome.used(10.0, 130.0, 1200) >= 0.95
    assert outcome.share_refused < 0.005


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("round_trip_s", [0.05, 0.4])
def test_an_unknown_limit_is_found_within_a_minute(counter: str, round_trip_s: float) -> None:
    provider = Provider(counter=COUNTERS[counter](1200), round_trip_s=round_trip_s)
    outcome = provider.serve(a_limiter(), seconds=240.0, seed=1)
    assert outcome.used(60.0, 240.0, 1200) >= 0.85
    assert outcome.share_refused <= 0.02


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_small_unknown_limit_costs_few_refusals(counter: str) -> None:
    """The first hundred calls a second are refused, because the limit is unknown; after that few are."""
    outcome = Provider(counter=COUNTERS[counter](300)).serve(a_limiter(), seconds=1800.0, seed=1)
    assert outcome.used(60.0, 1800.0, 300) >= 0.85
    assert outcome.share_refused <= 0.02


def test_a_large_unknown_limit_is_found() -> None:
    outcome = Provider(counter=Bucket(12_000)).serve(a_limiter(), seconds=150.0, seed=1)
    assert outcome.used(60.0, 150.0, 12_000) >= 0.85
    assert outcome.share_refused <= 0.02


def test_a_token_limit_is_used_with_few_refusals() -> None:
    for limiter, reports in ((a_limiter(None, 300_000), False), (a_limiter(), True)):
        provider = Provider(counter=SlidingWindow(300_000), reports=reports)
        outcome = provider.serve(limiter, seconds=130.0, tokens=2000, seed=1)
        assert outcome.used(10.0, 130.0, 150) >= 0.95
        assert outcome.share_refused < 0.005


def test_small_bursts_suit_a_provider_that_checks_every_second() -> None:
    provider = Provider(counter=FixedWindow(1200, 1.0))
    outcome = provider.serve(a_limiter(1200, burst_s=0.1), seconds=130.0, seed=1)
    assert outcome.used(10.0, 130.0, 1200) >= 0.90
    assert outcome.share_refused < 0.02


@pytest.mark.parametrize("others", [300.0, 600.0, 1000.0])
@pytest.mark.parametrize("counter", ["a bucket of a minute", "a sliding minute"])
def test_another_process_on_the_same_account_gets_its_share(counter: str, others: float) -> None:
    provider = Provider(counter=COUNTERS[counter](1200), reports=True, others=others)
    outcome = provider.serve(a_limiter(), seconds=240.0, seed=1)
    assert outcome.used(60.0, 240.0, int(1200 - others)) >= 0.95
    assert outcome.share_refused <= 0.02


@pytest.mark.parametrize(("requests", "reports"), [(None, False), (6000, False), (None, True)])
def test_random_refusals_slow_200_rows_by_less_than_three_seconds(requests: int | None, reports: bool) -> None:
    slower = []
    for seed in range(40):
        reliable = Provider(counter=Bucket(6000), reports=reports)
        unreliable = Provider(counter=Bucket(6000), reports=reports, chance=0.2)
        undisturbed = reliable.serve(a_limiter(requests), seconds=600.0, rows=200, seed=seed)
        disturbed = unreliable.serve(a_limiter(requests), seconds=600.0, rows=200, seed=seed)
        slower.append(disturbed.ended_at - undisturbed.ended_at)
    assert max(slower) <= 3.0
    assert median(slower) <= 2.5


@pytest.mark.parametrize("chance", [0.02, 0.1, 0.2])
def test_random_refusals_do_not_lower_the_speed(chance: float) -> None:
    provider = Provider(counter=Bucket(6000), reports=True, chance=chance)
    outcome = provider.serve(a_limiter(), seconds=90.0, seed=3)
    assert outcome.used(30.0, 90.0, 6000) >= 0.9 * (1.0 - chance)


@pytest.mark.parametrize("reports", [False, True])
def test_random_slow_downs_do_not_delay_a_run_by_minutes(reports: bool) -> None:
    took = []
    for seed in range(20):
        provider = Provider(counter=Bucket(6000), reports=reports, chance=0.03, slow_downs=True)
        took.append(provider.serve(a_limiter(), seconds=600.0, rows=400, seed=seed).ended_at)
    assert max(took) <= 60.0
    assert median(took) <= 15.0


def test_a_limit_lowered_in_headers_is_followed() -> None:
    provider = Provider(counter=Bucket(1200), reports=True)
    limiter = a_limiter()
    provider.serve(limiter, seconds=30.0, seed=1)
    provider.counter = SlidingWindow(300)
    later = Limiter(requests_per_minute=None, tokens_per_minute=None, now=START)
    later.restore(limiter.snapshot())
    outcome = provider.serve(later, seconds=120.0, seed=1)
    assert outcome.used(60.0, 120.0, 300) >= 0.9
    assert outcome.share_refused <= 0.02


def test_the_tests_that_the_constants_of_the_pace_name_exist() -> None:
    named = set(re.findall(r"\btest_\w+(?=[:\s])", Path(pace.__file__).read_text()))
    assert len(named) == 4
    assert named <= globals().keys()
