"""The poll schedule in simulated runs: its cost in polls, lag and time, compared with an oracle."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import fmean

import pytest

from orchestrator.policy.polling.schedule import PollSchedule, Watch

Latency = Callable[[Random, float], float]

ROUND_TRIP_S = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """Polls and lag (seconds) per response, the duration relative to the oracle's, and what was learned."""

    polls: float
    lag_s: float
    slower: float
    learned: bytes


def lognormal(median_s: float, sigma: float) -> Latency:
    return lambda draws, _: draws.lognormvariate(math.log(median_s), sigma)


def simulate(
    latency: Latency,
    *,
    rows: int = 1800,
    in_flight: int = 300,
    seed: int = 0,
    learned: bytes | None = None,
    polls_per_minute: float = 60_000.0,
    whole_seconds: bool = False,
    gated: bool = False,
    models: int = 1,
) -> Outcome:
    """Simulate a run; each response seen to have ended is followed by the next request.

    ``whole_seconds`` truncates the provider's times; ``gated`` limits polls to the allowance, as the limiter would.
    Rows alternate between so many ``models``, which share the allowance.
    """
    draws = Random(seed)
    latencies = [latency(draws, row / rows) for row in range(rows)]
    schedules: list[PollSchedule] = []
    for model in range(models):
        rng = Random(seed + 1 + model)
        schedules.append(PollSchedule(rng, polls_per_minute=polls_per_minute, sharers=schedules, learned=learned))
    began = 1_700_000_000.3
    heap: list[tuple[float, int, Watch, float]] = []
    sent = polls = 0
    lags: list[float] = []
    ended_at = free_at = began

    def send(at: float) -> None:
        nonlocal sent
        watch = schedules[sent % models].watch(at)
        heapq.heappush(heap, (watch.due_at, sent, watch, latencies[sent]))
        sent += 1
        for schedule in schedules:
            schedule.nothing_to_send = sent == rows

    for _ in range(min(in_flight, rows)):
        send(began)
    while heap:
        now, order, watch, took_s = heapq.heappop(heap)
        now = max(now, free_at) if gated else now
        schedule = schedules[order % models]
        if not schedule.due(watch, now):
            heapq.heappush(heap, (watch.due_at, order, watch, took_s))
            continue
        polls += 1
        free_at = now + 60.0 / polls_per_minute
        if watch.accepted_at + took_s <= now + ROUND_TRIP_S / 2:
            seen_at = now + ROUND_TRIP_S
            lags.append(seen_at - watch.accepted_at - took_s)
            ended_at = max(ended_at, seen_at)
            completed_at = watch.accepted_at + took_s
            reported_s = math.floor(completed_at) - math.floor(watch.accepted_at) if whole_seconds else took_s
            schedule.ended(watch, seen_at, took_s=float(reported_s))
            if sent < rows:
                send(seen_at)
        else:
            schedule.still_running(watch, now)
            heapq.heappush(heap, (watch.due_at, order, watch, took_s))
    return Outcome(
        polls / rows, fmean(lags), (ended_at - began) / oracle_s(latencies, in_flight), schedules[0].dump()
    )


def oracle_s(latencies: list[float], in_flight: int) -> float:
    """Returns how long the run takes if each end is seen at once."""
    ends = latencies[:in_flight]
    heapq.heapify(ends)
    for took_s in latencies[in_flight:]:
        heapq.heapreplace(ends, ends[0] + took_s)
    return max(ends)


def cold_and_warm(
    latency: Latency, *, seeds: int, whole_seconds: bool = False
) -> tuple[list[Outcome], list[Outcome]]:
    """Returns first runs, and for each a second run of the same job."""
    cold = [simulate(latency, seed=seed, whole_seconds=whole_seconds) for seed in range(seeds)]
    warm = [
        simulate(latency, seed=100 + seed, whole_seconds=whole_seconds, learned=first.learned)
        for seed, first in enumerate(cold)
    ]
    return cold, warm


def mean(outcomes: list[Outcome], field: str) -> float:
    return fmean(getattr(outcome, field) for outcome in outcomes)


@pytest.mark.parametrize("seeds", [2, pytest.param(6, marks=pytest.mark.long)])
@pytest.mark.parametrize("whole_seconds", [False, True])
def test_the_usual_latencies(whole_seconds: bool, seeds: int) -> None:
    cold, warm = cold_and_warm(lognormal(8.0, 0.7), seeds=seeds, whole_seconds=whole_seconds)
    assert mean(cold, "polls") <= 3.8
    assert mean(cold, "lag_s") <= 1.8
    assert mean(cold, "slower") <= 1.15
    assert mean(warm, "polls") <= (3.45 if whole_seconds else 3.4)
    assert mean(warm, "lag_s") <= 1.6
    assert mean(warm, "slower") <= 1.10


@pytest.mark.parametrize("rows", [6_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_thousands_of_responses(rows: int) -> None:
    outcome = simulate(lognormal(8.0, 0.7), rows=rows, seed=3)
    assert outcome.polls <= 3.4
    assert outcome.lag_s <= 1.6
    assert len(outcome.learned) < 4000


def test_two_kinds_of_answers() -> None:
    def quick_or_slow(draws: Random, _: float) -> float:
        return draws.lognormvariate(math.log(2.0 if draws.random() < 0.6 else 40.0), 0.3)

    for outcomes in cold_and_warm(quick_or_slow, seeds=2):
        assert mean(outcomes, "polls") <= 4.2
        assert mean(outcomes, "lag_s") <= 1.8
        assert mean(outcomes, "slower") <= 1.10


@pytest.mark.parametrize(("first_s", "last_s"), [(4.0, 20.0), (20.0, 4.0)])
def test_a_provider_that_gets_slower_or_quicker(first_s: float, last_s: float) -> None:
    def drifting(draws: Random, progress: float) -> float:
        return draws.lognormvariate(math.log(first_s + (last_s - first_s) * progress), 0.6)

    for outcomes in cold_and_warm(drifting, seeds=2):
        assert mean(outcomes, "polls") <= 4.4
        assert mean(outcomes, "lag_s") <= 3.4
        assert mean(outcomes, "slower") <= 1.15


@pytest.mark.parametrize("earlier_s", [1.0, 60.0])
def test_latencies_of_another_day_do_not_mislead_for_long(earlier_s: float) -> None:
    learned = simulate(lognormal(earlier_s, 0.5)).learned
    outcome = simulate(lognormal(8.0, 0.7), seed=1, learned=learned)
    assert outcome.polls <= 4.5
    assert outcome.slower <= 1.35


def test_constant_latencies_take_hardly_more_than_one_poll() -> None:
    outcome = simulate(lambda *_: 60.0, rows=900, seed=1, learned=simulate(lambda *_: 60.0, rows=900).learned)
    assert outcome.polls <= 2.0
    assert outcome.lag_s <= 3.0


def test_quick_answers_take_one_poll() -> None:
    learned = simulate(lambda *_: 0.05, rows=300, in_flight=20).learned
    outcome = simulate(lambda *_: 0.05, rows=300, in_flight=20, learned=learned)
    assert outcome.polls <= 1.2
    assert outcome.lag_s <= 0.1


def test_quick_answers_are_seen_within_their_own_latency() -> None:
    outcome = simulate(lambda *_: 0.05, rows=6000, in_flight=200, whole_seconds=True, polls_per_minute=6_000_000.0)
    assert outcome.polls <= 1.1
    assert outcome.lag_s <= 0.05


def test_responses_that_take_hours() -> None:
    cold = simulate(lognormal(7200.0, 0.4), rows=60, in_flight=30)
    for outcome in (cold, simulate(lognormal(7200.0, 0.4), rows=60, in_flight=30, seed=1, learned=cold.learned)):
        assert outcome.lag_s <= 60.0
        assert outcome.polls <= 250.0
        assert outcome.slower <= 1.03


def test_a_run_of_five_rows_ends_soon() -> None:
    outcomes = [simulate(lognormal(8.0, 0.7), rows=5, seed=seed) for seed in range(20)]
    assert mean(outcomes, "slower") <= 1.10
    assert mean(outcomes, "polls") <= 20.0


@pytest.mark.parametrize("models", [1, 4])
def test_a_short_allowance_is_shared_evenly(models: int) -> None:
    # 2,000 polls per minute for 300 in flight: 33 a second, while 85 would be due.
    outcome = simulate(lognormal(8.0, 0.7), polls_per_minute=2000.0, gated=True, models=models)
    assert outcome.polls <= 1.8
    assert outcome.lag_s <= 5.5
    assert outcome.slower <= 1.35
