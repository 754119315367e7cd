"""The limiter: its guarantees, and how it reacts to replies."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import RateLimits
from orchestrator.policy.rate_limits.limits import LearnedLimits, Limiter, Pools, learned_limits
from orchestrator.policy.rate_limits.sliding_window import Window

NOW = 1_700_000_000.0


def a_limiter(requests: int | None = None, tokens: int | None = None, *, burst_s: float = 1.0) -> Limiter:
    return Limiter(requests_per_minute=requests, tokens_per_minute=tokens, now=NOW, burst_s=burst_s)


def take_all(limiter: Limiter, *, since: float, until: float, tokens: int = 0) -> list[float]:
    """Take the same request repeatedly, asking again at ``ready_at``; returns the times at which it was granted."""
    now, granted_at = since, []
    while now < until:
        if limiter.take(now, tokens):
            granted_at.append(now)
        else:
            now = limiter.ready_at(now, tokens)
    return granted_at


# ── Requests and tokens ───────────────────────────────────────────────────────────────────────────────────────


def test_requests_and_tokens_are_taken_together_or_not_at_all() -> None:
    limiter = a_limiter(600, 60_000)
    assert limiter.take(NOW + 10.0, 1000)
    assert not limiter.take(NOW + 10.0, 60_000)
    # If the refused request had counted as a request, eight more would not fit into the burst of nine.
    assert [limiter.take(NOW + 10.0, 0) for _ in range(10)] == [True] * 8 + [False] * 2


def test_known_limits_are_used_and_spread_evenly() -> None:
    granted_at = take_all(a_limiter(1200), since=NOW, until=NOW + 120.0)
    for second in range(1, 120):
        assert 18 <= sum(NOW + second <= at < NOW + second + 1 for at in granted_at) <= 21
    assert sum(NOW + 10.0 <= at < NOW + 70.0 for at in granted_at) >= 0.95 * 1200


def test_the_tighter_limit_decides() -> None:
    granted_at = take_all(a_limiter(6000, 60_000), since=NOW, until=NOW + 60.0, tokens=1000)
    assert 55 <= len(granted_at) <= 60


def test_ready_at_is_exact() -> None:
    limiter, now = a_limiter(60, 6000), NOW
    for tokens in (100, 50, 2000, 30, 3000, 1, 0):
        ready = limiter.ready_at(now, tokens)
        assert ready == now or not limiter.take(ready - 0.01, tokens)
        while not limiter.take(ready, tokens):
            # The rate grows while it waits, so it may need a last fraction of a second.
            assert limiter.ready_at(ready, tokens) < ready + 0.01
            ready = limiter.ready_at(ready, tokens)
        now = ready


def test_a_request_larger_than_the_burst_is_sent_and_delays_the_next() -> None:
    limiter = a_limiter(None, 60_000)
    assert limiter.take(NOW + 60.0, 30_000)
    assert limiter.ready_at(NOW + 60.0, 1000) == pytest.approx(NOW + 90.0, abs=2.0)


def test_a_request_that_needs_a_whole_minute_is_sent_and_a_larger_one_never() -> None:
    limiter = a_limiter(None, 60_000)
    assert not limiter.never_fits(60_000)
    assert limiter.never_fits(60_001)
    assert take_all(limiter, since=NOW, until=NOW + 200.0, tokens=60_000)[1:2] == [pytest.approx(NOW + 61.0, abs=2.0)]
    assert limiter.ready_at(NOW + 300.0, 60_001) == math.inf
    assert not limiter.take(NOW + 300.0, 60_001)


def test_a_reported_limit_decides_whether_a_request_ever_fits() -> None:
    limiter = a_limiter()
    assert not limiter.never_fits(10**9)
    limiter.learn(NOW, NOW, RateLimits(limit_tokens=30_000))
    assert limiter.never_fits(30_001)


def test_an_unknown_token_limit_delays_nothing() -> None:
    assert a_limiter(600).take(NOW, 10**9)


def test_a_request_that_was_not_sent_is_refunded() -> None:
    limiter = a_limiter(600, 60_000)
    assert limiter.take(NOW + 10.0, 60_000)
    assert not limiter.take(NOW + 10.1, 60_000)
    limiter.refund(NOW + 10.2, 60_000, taken_at=NOW + 10.0)
    assert limiter.take(NOW + 10.2, 60_000)


def test_a_late_refund_does_not_count_after_its_minute() -> None:
    limiter = a_limiter(600, 60_000)
    assert limiter.take(NOW + 10.0, 60_000)
    assert limiter.take(NOW + 100.0, 60_000)
    limiter.refund(NOW + 100.0, 60_000, taken_at=NOW + 10.0)
    assert limiter.ready_at(NOW + 100.0, 60_000) > NOW + 160.0


@given(
    requests=st.one_of(st.none(), st.integers(1, 3000)),
    tokens=st.one_of(st.none(), st.integers(1, 500_000)),
    burst_s=st.floats(0.0, 60.0),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "take", "flood", "accepted", "refused", "slow_down", "refund"]),
            st.one_of(st.floats(0.0, 3.0), st.floats(0.0, 90.0)),
            st.floats(0.0, 1.2),
        ),
        max_size=60,
    ),
    reported=st.one_of(st.none(), st.integers(1, 5000)),
)
def test_no_60_seconds_use_more_than_the_allowance(
    requests: int | None,
    tokens: int | None,
    burst_s: float,
    steps: list[tuple[str, float, float]],
    reported: int | None,
) -> None:
    limiter, now = a_limiter(requests, tokens, burst_s=burst_s), NOW
    taken: list[tuple[float, int]] = []
    limits = RateLimits(limit_requests=reported, limit_tokens=reported)
    smallest_requests = min((n for n in (requests, reported) if n is not None), default=None)
    for what, seconds, share in steps:
        now += seconds
        amount = int(share * (tokens if tokens is not None else 1000))
        match what:
            case "take" | "flood":
                while limiter.take(now, amount):
                    taken.append((now, amount))
                    if what == "take" or len(taken) > 2000:
                        break
            case "accepted":
                limiter.learn(now, now - share, None)
            case "refund" if taken and smallest_requests is not None:
                at, amount = taken.pop()
                limiter.refund(now, amount, taken_at=at)
            case "refused" | "slow_down":
                limiter.rate_limited(now, now - share, retry_after_s=seconds, slow_down=what == "slow_down")
    most_requests, most_tokens = fullest_minute(taken)
    assert requests is None or most_requests <= requests
    assert tokens is None or most_tokens <= tokens
    # A limit that the provider reports holds from then on.
    if reported is not None:
        limiter.learn(now, now, limits)
        assert fullest_minute(take_some(limiter, now + 61.0, now + 125.0, limit=reported))[0] <= reported


def fullest_minute(taken: list[tuple[float, int]]) -> tuple[int, int]:
    """Returns the most requests, and the most tokens, in any 60 s."""
    most_requests = most_tokens = tokens = oldest = 0
    for i, (at, amount) in enumerate(taken):
        tokens += amount
        while at - taken[oldest][0] >= 60.0:
            tokens -= taken[oldest][1]
            oldest += 1
        most_requests, most_tokens = max(most_requests, i - oldest + 1), max(most_tokens, tokens)
    return most_requests, most_tokens


def take_some(limiter: Limiter, since: float, until: float, *, limit: int) -> list[tuple[float, int]]:
    """Take requests of one token, at most five per second."""
    granted_at: list[tuple[float, int]] = []
    now = since
    while now < until and len(granted_at) <= 3 * limit:
        if limiter.take(now, 1):
            granted_at.append((now, 1))
        else:
            now = max(limiter.ready_at(now, 1), now + 0.2)
    return granted_at


@given(
    requests=st.one_of(st.none(), st.integers(1, 3000)),
    tokens=st.one_of(st.none(), st.integers(1, 500_000)),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0.0, 30.0), st.floats(0.0, 1e4)), max_size=40),
)
def test_it_never_blocks_forever(
    requests: int | None, tokens: int | None, steps: list[tuple[bool, float, float]]
) -> None:
    limiter, now = a_limiter(requests, tokens), NOW
    for good, seconds, wait_s in steps:
        now += seconds
        limiter.take(now, 1)
        if good:
            limiter.learn(now, now - 0.1, RateLimits(remaining_requests=0, remaining_tokens=0))
        else:
            limiter.rate_limited(now, now - 0.1, retry_after_s=wait_s)
    asked, deadline = 0, now + 200.0
    while not limiter.take(now, 1):
        later = limiter.ready_at(now, 1)
        assert later > now
        now, asked = later, asked + 1
        assert asked < 100
    assert now < deadline


# ── Headers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_limit_is_taken_from_the_headers() -> None:
    limiter = a_limiter()
    limiter.take(NOW, 10)
    limiter.learn(NOW + 0.2, NOW, RateLimits(limit_requests=600, limit_tokens=90_000))
    assert (limiter.requests_per_minute, limiter.tokens_per_minute) == (600, 90_000)
    assert 580 <= len(take_all(limiter, since=NOW + 1.0, until=NOW + 61.0)) <= 600


def test_of_many_replies_at_a_time_one_is_observed() -> None:
    limiter = a_limiter()
    observed: list[int] = []
    for ms in range(200):
        if limiter.wants_headers(NOW + ms / 1000):
            observed.append(ms)
            limiter.learn(NOW + ms / 1000, NOW, RateLimits(limit_requests=600))
    assert observed[0] == 0
    assert 9 <= len(observed) <= 10


def test_the_config_stays_an_upper_bound() -> None:
    limiter = a_limiter(300)
    limiter.learn(NOW, NOW, RateLimits(limit_requests=100_000))
    assert limiter.requests_per_minute == 300


def test_a_reply_to_an_earlier_call_does_not_replace_a_newer_limit() -> None:
    limiter = a_limiter()
    limiter.learn(NOW + 1.0, NOW + 0.9, RateLimits(limit_requests=100))
    limiter.learn(NOW + 1.1, NOW + 0.1, RateLimits(limit_requests=5000))
    assert limiter.requests_per_minute == 100


def test_the_wait_covers_what_others_used_but_not_the_whole_reset() -> None:
    limiter = a_limiter(None, 60_000)
    limiter.take(NOW, 1000)
    limits = RateLimits(limit_tokens=60_000, remaining_tokens=2000, reset_tokens_s=58.0)
    limiter.learn(NOW + 0.1, NOW, limits)
    # 10,000 tokens are needed, 2,000 remain, 1,000 are restored each second.
    assert limiter.ready_at(NOW + 0.1, 10_000) == pytest.approx(NOW + 8.1, abs=0.2)


def test_calls_sent_since_are_not_counted_twice() -> None:
    limiter = a_limiter(None, 600_000, burst_s=60.0)
    limiter.take(NOW + 60.0, 100_000)
    limiter.take(NOW + 61.0, 100_000)
    limits = RateLimits(limit_tokens=600_000, remaining_tokens=300_000)
    limiter.learn(NOW + 61.0, NOW + 60.0, limits)
    assert limiter.ready_at(NOW + 61.0, 200_000) == NOW + 61.0
    assert limiter.ready_at(NOW + 61.0, 201_000) > NOW + 61.0


def test_a_reported_remainder_never_raises_the_limit() -> None:
    limiter = a_limiter(60)
    granted_at = take_all(limiter, since=NOW, until=NOW + 30.0)
    limiter.learn(NOW + 30.0, NOW + 29.9, RateLimits(limit_requests=60, remaining_requests=60))
    assert len(granted_at) + len(take_all(limiter, since=NOW + 30.0, until=NOW + 60.0)) <= 60


def test_a_daily_limit_is_not_taken_for_one_per_minute() -> None:
    limiter = a_limiter()
    limiter.learn(NOW, NOW, RateLimits(limit_requests=200, remaining_requests=199, reset_requests_s=432.0))
    assert limiter.requests_per_minute is None
    limiter.learn(NOW, NOW, RateLimits(limit_requests=200, remaining_requests=10, reset_requests_s=60.0))
    assert limiter.requests_per_minute is None


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 1000)), max_size=50), st.floats(0.0, 60.0))
def test_a_window_knows_recent_use_to_half_a_second(uses: list[tuple[float, int]], before_s: float) -> None:
    window, now, history = Window(), NOW, []
    for seconds, amount in uses:
        now += seconds
        window.add(now, amount)
        history.append((now, amount))
    moment = now - before_s
    at_least = sum(amount for at, amount in history if at >= moment + 0.5)
    at_most = sum(amount for at, amount in history if at >= moment - 0.5)
    assert at_least <= window.since(moment) <= at_most
    # Spread over a slot, half of it lies after its middle.
    even = Window()
    for tenth in range(5):
        even.add(1000.0 + tenth / 10, 100)
    assert even.since(1000.25) == pytest.approx(250.0)


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────────────────────


def a_busy_limiter(requests: int | None = None) -> Limiter:
    """Returns a limiter that has sent at full speed for one second from ``NOW``."""
    limiter = a_limiter(requests)
    take_all(limiter, since=NOW, until=NOW + 1.0)
    return limiter


def refuse(limiter: Limiter, now: float, times: int, *, sent_at: float | None = None, after_s: float = 1.0) -> None:
    for _ in range(times):
        limiter.rate_limited(now, now - 0.1 if sent_at is None else sent_at, retry_after_s=after_s)


def accept(limiter: Limiter, now: float, times: int) -> None:
    for _ in range(times):
        limiter.learn(now, now - 0.1, None)


def test_a_single_refusal_among_successes_changes_nothing() -> None:
    limiter = a_limiter(6000)
    accept(limiter, NOW + 1.0, 50)
    before = limiter.pace_per_minute
    refuse(limiter, NOW + 1.0, 1)
    accept(limiter, NOW + 1.0, 50)
    assert limiter.pace_per_minute >= before
    assert limiter.ready_at(NOW + 1.0, 0) == NOW + 1.0


def test_a_cluster_of_refusals_pauses_and_slows_once() -> None:
    limiter = a_busy_limiter(6000)
    refuse(limiter, NOW + 1.0, 3)
    slowed = limiter.pace_per_minute
    assert 1900 <= slowed <= 2100
    assert limiter.paused_until - NOW == pytest.approx(2.0)
    # The rest of the episode: calls that were sent before.
    refuse(limiter, NOW + 1.2, 200, sent_at=NOW + 0.9, after_s=30.0)
    assert limiter.pace_per_minute == slowed
    assert limiter.paused_until - NOW == pytest.approx(2.0)


def test_successes_of_earlier_calls_do_not_raise_the_speed() -> None:
    limiter = a_busy_limiter(6000)
    refuse(limiter, NOW + 1.0, 3)
    slowed = limiter.pace_per_minute
    for _ in range(200):
        limiter.learn(NOW + 2.0, NOW + 0.9, None)
    assert limiter.pace_per_minute == slowed
    accept(limiter, NOW + 3.0, 32)
    take_all(limiter, since=NOW + 3.0, until=NOW + 6.0)
    assert limiter.pace_per_minute > slowed


def test_a_trial_with_clearly_fewer_refusals_is_followed_by_a_slower_one() -> None:
    limiter = a_busy_limiter()
    refuse(limiter, NOW + 1.0, 3)
    tried = limiter.pace_per_minute
    refuse(limiter, NOW + 2.0, 4, sent_at=NOW + 0.9)
    for second in (3.0, 4.0, 5.0, 6.0):
        accept(limiter, NOW + second, 6)
        refuse(limiter, NOW + second, 2)
    assert limiter.pace_per_minute == pytest.approx(tried / 3, rel=0.01)


def test_a_trial_without_fewer_refusals_restores_the_speed() -> None:
    limiter = a_busy_limiter()
    before = limiter.pace_per_minute
    refuse(limiter, NOW + 1.0, 3)
    refuse(limiter, NOW + 2.0, 1, sent_at=NOW + 0.9)
    for _ in range(4):
        limiter.learn(NOW + 2.0, NOW + 0.9, None)
    for second in (3.0, 4.0, 5.0, 6.0):
        accept(limiter, NOW + second, 6)
        refuse(limiter, NOW + second, 2)
    assert limiter.pace_per_minute == pytest.approx(before, rel=0.01)


def test_near_a_speed_known_as_too_fast_it_slows_by_a_fifth_without_a_trial() -> None:
    limiter = a_busy_limiter()
    refuse(limiter, NOW + 1.0, 3)
    accept(limiter, NOW + 3.0, 32)
    take_all(limiter, since=NOW + 3.0, until=NOW + 60.0)
    before = limiter.pace_per_minute
    accept(limiter, NOW + 60.0, 1)
    refuse(limiter, NOW + 60.1, 3, sent_at=NOW + 60.0)
    assert limiter.pace_per_minute == pytest.approx(0.8 * before, rel=0.01)


def test_a_pause_ends_with_a_single_call_and_no_burst() -> None:
    limiter = a_limiter(60_000)
    take_all(limiter, since=NOW, until=NOW + 1.0)
    refuse(limiter, NOW + 1.0, 3, after_s=2.0)
    assert limiter.ready_at(NOW + 1.0, 0) == pytest.approx(NOW + 3.0, abs=0.01)
    assert [limiter.take(NOW + 3.0, 0) for _ in range(3)] == [True, False, False]


def test_pauses_in_a_row_get_longer_up_to_a_minute() -> None:
    limiter, now, waits = a_limiter(600), NOW, []
    for _ in range(30):
        limiter.rate_limited(now, now, retry_after_s=None)
        waits.append(limiter.paused_until - now)
        now = max(now, limiter.paused_until) + 0.1
    assert waits[-1] == pytest.approx(60.0)
    assert sorted(waits[3:]) == waits[3:]


def test_after_a_stop_it_resumes_at_half_of_the_last_minute() -> None:
    limiter = a_limiter(6000)
    take_all(limiter, since=NOW, until=NOW + 50.0)
    accept(limiter, NOW + 50.0, 2000)
    refuse(limiter, NOW + 50.0, 3, after_s=20.0)
    assert limiter.pace_per_minute == pytest.approx(1000, rel=0.01)
    assert limiter.paused_until - NOW == pytest.approx(70.0)


def test_refusals_that_only_arrive_first_do_not_stop_it() -> None:
    """Twelve calls of sixty are refused, and their replies arrive first."""
    limiter = a_busy_limiter(6000)
    before = limiter.pace_per_minute
    accept(limiter, NOW + 0.9, 1)
    refuse(limiter, NOW + 1.0, 12, sent_at=NOW + 0.5)
    for _ in range(48):
        limiter.learn(NOW + 1.1, NOW + 0.6, None)
    assert limiter.pace_per_minute > before / 4


def test_after_a_stop_a_few_late_successes_change_nothing() -> None:
    limiter = a_busy_limiter(6000)
    accept(limiter, NOW + 0.9, 100)
    refuse(limiter, NOW + 1.0, 3)
    refuse(limiter, NOW + 1.0, 9)
    slowed = limiter.pace_per_minute
    for n in range(60):
        if n % 5:
            refuse(limiter, NOW + 1.1, 1, sent_at=NOW + 0.8)
        else:
            limiter.learn(NOW + 1.1, NOW + 0.8, None)
    assert limiter.pace_per_minute == slowed


def test_no_pause_is_longer_than_a_minute() -> None:
    limiter = a_limiter(6000)
    refuse(limiter, NOW, 20, after_s=86_400.0)
    assert limiter.paused_until <= NOW + 60.0


def test_after_slow_down_it_grows_by_half_in_15_minutes() -> None:
    limiter = a_limiter(6000)
    take_all(limiter, since=NOW, until=NOW + 5.0)
    before = limiter.pace_per_minute
    limiter.rate_limited(NOW + 5.0, NOW + 4.9, retry_after_s=None, slow_down=True)
    slowed = limiter.pace_per_minute
    assert slowed == pytest.approx(before / 1.5, rel=0.01)
    limiter.learn(NOW + 6.0, NOW + 5.9, None)
    take_all(limiter, since=NOW + 6.0, until=NOW + 306.0)
    assert limiter.pace_per_minute == pytest.approx(slowed * 1.5 ** (1 / 3), rel=0.02)


def test_it_grows_only_while_it_is_used() -> None:
    limiter = a_limiter(60_000)
    assert limiter.take(NOW + 2.0, 0)
    before = limiter.pace_per_minute
    for second in range(3, 300):
        assert limiter.take(NOW + second, 0)
    assert limiter.pace_per_minute == before
    take_all(limiter, since=NOW + 300.0, until=NOW + 310.0)
    assert limiter.pace_per_minute > 1.5 * before


def test_refusals_do_not_slow_it_while_headers_report_room() -> None:
    limiter = a_limiter()
    room = RateLimits(limit_requests=6000, remaining_requests=5900)
    limiter.learn(NOW, NOW, room)
    before = limiter.pace_per_minute
    for i in range(100):
        now = NOW + 1.0 + i / 100
        if i % 5 == 0:
            limiter.rate_limited(now, now - 0.01, retry_after_s=1.0, limits=room)
        else:
            limiter.learn(now, now - 0.01, room)
    assert limiter.pace_per_minute >= before
    assert limiter.paused_until < NOW


# ── Snapshots ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_passes_the_limits_to_the_next_process() -> None:
    limiter = a_limiter()
    limiter.learn(NOW, NOW, RateLimits(limit_requests=1200, limit_tokens=90_000))
    next_one = a_limiter()
    next_one.restore(limiter.snapshot())
    assert (next_one.requests_per_minute, next_one.tokens_per_minute) == (1200, 90_000)
    next_one.learn(NOW + 9.0, NOW + 8.9, RateLimits(limit_requests=5000))
    assert next_one.requests_per_minute == 5000


def test_a_restored_speed_starts_at_half() -> None:
    limiter = a_busy_limiter()
    refuse(limiter, NOW + 1.0, 3)
    accept(limiter, NOW + 5.0, 32)
    found = limiter.pace_per_minute
    assert found == pytest.approx(2000, rel=0.01)
    next_one = a_limiter()
    next_one.restore(limiter.snapshot())
    assert next_one.pace_per_minute == pytest.approx(found / 2)


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"\xff", b"[]", b"7", b'{"v":2,"requests":1}', b'{"v":1,"requests":"x","tokens":[],"pace":{}}',
     b'{"v":1,"requests":-5,"tokens":0,"pace":-1}', b'{"v":1,"pace":NaN}', b'{"v":1,"pace":Infinity}'],
)  # fmt: skip
def test_nonsense_is_ignored(nonsense: bytes) -> None:
    limiter = a_limiter()
    limiter.restore(nonsense)
    assert limiter.requests_per_minute is None
    assert limiter.tokens_per_minute is None
    assert limiter.pace_per_minute == a_limiter().pace_per_minute


def test_each_model_has_its_own_pool() -> None:
    pools = Pools(requests_per_minute=60, tokens_per_minute=None, now=NOW)
    assert pools.pool("a") is pools.pool("a")
    while pools.pool("a").take(NOW + 1.0, 0):
        pass
    assert pools.pool("b").take(NOW + 1.0, 0)


def test_pools_keep_the_snapshots_of_models_that_are_not_used() -> None:
    first = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)
    for model, limit in (("a", 100), ("b", 200)):
        first.pool(model).learn(NOW, NOW, RateLimits(limit_requests=limit))
    second = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)
    second.restore(first.snapshot())
    assert second.pool("a").requests_per_minute == 100
    assert set(json.loads(second.snapshot())) == {"a", "b"}
    for nonsense in (b"", b"[1]", b'{"a":7,"b":null}'):
        third = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)
        third.restore(nonsense)
        assert third.pool("a").requests_per_minute is None


def test_what_was_learned_is_read_from_a_snapshot_and_nonsense_is_ignored() -> None:
    pools = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)
    pools.pool("a").learn(NOW, NOW, RateLimits(limit_requests=100, limit_tokens=9_000))
    assert learned_limits(pools.snapshot()) == {"a": LearnedLimits(100, 9_000, None)}
    nothing = LearnedLimits(None, None, None)
    nonsense = b'{"v1":{"v":2,"requests":1},"text":{"v":1,"requests":"x","tokens":-1,"pace":NaN},"none":null}'
    assert learned_limits(nonsense) == {"text": nothing}
    assert [learned_limits(each) for each in (b"", b"\xff", b"[1]", b"7")] == [{}, {}, {}, {}]
