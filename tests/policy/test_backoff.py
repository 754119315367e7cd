"""Waits: random, bounded, and never shorter than ``Retry-After``."""

from __future__ import annotations

import random
from statistics import mean

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.rate_limits.backoff import full_jitter, retry_wait

attempts = st.integers(-5, 10**6)
seeds = st.integers(0, 2**32)
waits = st.one_of(st.none(), st.floats(0, 86_400, allow_nan=False))


@given(attempts, seeds, st.floats(0, 1e6), st.floats(0, 1e6))
def test_full_jitter_stays_between_zero_and_the_cap(attempt: int, seed: int, base_s: float, cap_s: float) -> None:
    assert 0 <= full_jitter(attempt, random.Random(seed), base_s=base_s, cap_s=cap_s) <= cap_s


def test_full_jitter_doubles_its_range_and_uses_all_of_it() -> None:
    rng = random.Random(1)
    for attempt, most_s in ((1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (100, 30.0)):
        drawn = [full_jitter(attempt, rng) for _ in range(2000)]
        assert max(drawn) <= most_s
        assert max(drawn) > 0.98 * most_s
        assert min(drawn) < 0.02 * most_s
        assert abs(mean(drawn) - most_s / 2) < 0.03 * most_s


def test_the_same_random_state_gives_the_same_wait() -> None:
    assert full_jitter(4, random.Random(7)) == full_jitter(4, random.Random(7))


@given(attempts, seeds, waits)
def test_a_retry_after_is_a_minimum(attempt: int, seed: int, at_least_s: float | None) -> None:
    wait_s = retry_wait(attempt, random.Random(seed), at_least_s=at_least_s)
    assert wait_s >= (at_least_s or 0.0)
    assert wait_s <= max(60.0, (at_least_s or 0.0) + 5.0)


def test_requests_with_the_same_retry_after_do_not_return_together() -> None:
    rng = random.Random(1)
    drawn = [retry_wait(1, rng, at_least_s=10, base_s=0.1) for _ in range(1000)]
    assert 10 <= min(drawn) < 10.1
    assert 12.4 < max(drawn) <= 12.5


def test_a_retry_after_of_zero_still_backs_off() -> None:
    rng = random.Random(1)
    assert mean(retry_wait(5, rng, at_least_s=0) for _ in range(1000)) > 5
