"""The poll schedule: what each call guarantees in any state."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.polling.latency import LatencyTable
from orchestrator.policy.polling.schedule import PollSchedule, Watch

NOW = 1_700_000_000.0


def a_schedule(latency_s: float | None = None, *, polls_per_minute: float = 60_000.0) -> PollSchedule:
    """A schedule that knows nothing, or one that has seen fifty responses of about this latency."""
    schedule = PollSchedule(Random(1), polls_per_minute=polls_per_minute)
    draws = Random(2)
    for _ in range(50 if latency_s is not None else 0):
        took_s = (latency_s or 0.0) * draws.lognormvariate(0.0, 0.3)
        schedule.ended(schedule.watch(NOW), NOW + took_s, took_s=took_s)
    return schedule


def first_poll_s(schedule: PollSchedule) -> float:
    """Returns the age at which a response accepted now is first polled, if nothing else happens."""
    watch = schedule.watch(NOW)
    while not schedule.due(watch, watch.due_at):
        pass
    return watch.due_at - NOW


def test_with_nothing_known_scouts_are_polled_soon_and_the_others_wait() -> None:
    schedule = a_schedule()
    polls = [first_poll_s(schedule) for _ in range(50)]
    assert all(poll < 0.5 for poll in polls[:12])
    assert all(0.9 < poll < 2.0 for poll in polls[12:])


def test_with_nothing_known_gaps_grow_with_age_and_stay_bounded() -> None:
    schedule = a_schedule(polls_per_minute=600.0)
    ages = {watch: [1.0] for watch in [schedule.watch(NOW) for _ in range(30)]}
    while min(polls[-1] for polls in ages.values()) < 1000.0:
        watch, polls = min(ages.items(), key=lambda item: item[1][-1])
        schedule.still_running(watch, NOW + polls[-1])
        while not schedule.due(watch, watch.due_at):
            pass
        polls.append(watch.due_at - NOW)
    for polls in ages.values():
        assert len(polls) < 80
        assert all(later < 4.0 * earlier for earlier, later in pairwise(polls))
        assert max(later - earlier for earlier, later in pairwise(polls)) < 66.0


@pytest.mark.parametrize("latency_s", [0.5, 8.0, 60.0, 600.0])
def test_a_known_latency_sets_the_first_poll(latency_s: float) -> None:
    assert min(0.3 * latency_s, 56.0) < first_poll_s(a_schedule(latency_s)) < 1.2 * latency_s + 0.2


def test_responses_accepted_together_are_not_polled_together() -> None:
    schedule = a_schedule(8.0)
    polls = sorted(first_poll_s(schedule) for _ in range(100))
    assert polls[-1] - polls[0] > 0.2


def test_new_observations_postpone_a_poll_that_has_come_due() -> None:
    schedule = a_schedule()
    scouts = [schedule.watch(NOW) for _ in range(12)]
    waiting = schedule.watch(NOW)
    for scout in scouts:
        for age in (0.2, 0.5, 1.0, 1.5, 2.0):
            schedule.still_running(scout, NOW + age)
    assert not schedule.due(waiting, NOW + 1.5)
    assert waiting.due_at > NOW + 1.5


def test_quicker_endings_shorten_long_waits() -> None:
    schedule = a_schedule(600.0)
    waiting = schedule.watch(NOW)
    for _ in range(2000):
        schedule.ended(schedule.watch(NOW), NOW + 5.0, took_s=5.0)
    assert waiting.due_at < NOW + 400.0
    assert schedule.due(waiting, waiting.due_at)


def test_the_provider_may_ask_to_poll_later() -> None:
    schedule = a_schedule(8.0)
    watch = schedule.watch(NOW, not_before=NOW + 50.0)
    for at in (NOW + 10.0, NOW + 49.9):
        assert not schedule.due(watch, at)
    assert schedule.due(watch, NOW + 50.0)
    schedule.still_running(watch, NOW + 50.0, not_before=NOW + 90.0)
    assert not schedule.due(watch, NOW + 89.9)
    assert schedule.due(watch, NOW + 90.0)


def test_responses_of_an_earlier_process_are_due_at_once_the_oldest_first() -> None:
    schedule = a_schedule(8.0)
    watches = [schedule.watch(NOW - age) for age in (100.0, 3000.0, 700.0)]
    assert all(schedule.due(watch, NOW) for watch in watches)
    assert min(watches, key=lambda watch: watch.due_at).accepted_at == NOW - 3000.0


def test_the_last_few_are_polled_more_often() -> None:
    schedule = a_schedule(8.0)
    last = schedule.watch(NOW)
    schedule.still_running(last, NOW + 30.0)
    assert schedule.due(last, NOW + 40.0)
    ordinary_s = _gap_s(schedule, last)
    schedule.nothing_to_send = True
    assert _gap_s(schedule, last) < ordinary_s / 2


def _gap_s(schedule: PollSchedule, watch: Watch) -> float:
    """Returns the seconds from the last poll to the next, to a tenth."""
    return next(
        gap / 10 for gap in range(1, 10_000) if schedule.due(watch, watch.accepted_at + watch.seen_s + gap / 10)
    )


def test_a_short_allowance_lengthens_the_gaps() -> None:
    first = {}
    for allowance in (60.0, 600.0, 60_000.0):
        schedule = a_schedule(8.0, polls_per_minute=allowance)
        watches = [schedule.watch(NOW) for _ in range(200)]
        first[allowance] = _gap_s(schedule, watches[0])
    assert first[60.0] > first[600.0] > first[60_000.0]


def test_spare_allowance_keeps_the_lag_of_hour_long_responses_within_a_minute() -> None:
    schedule = a_schedule(3600.0)
    watch = schedule.watch(NOW)
    schedule.still_running(watch, NOW + 3600.0)
    assert _gap_s(schedule, watch) <= 61.0


def _typical_s(schedule: PollSchedule) -> float:
    return schedule._table.geometric_mean_s


def test_a_dump_is_restored_and_nonsense_is_ignored() -> None:
    learned = a_schedule(8.0).dump()
    assert len(learned) < 4000
    warm = PollSchedule(Random(1), learned=learned)
    assert _typical_s(warm) == pytest.approx(8.0, rel=0.3)
    for nonsense in (b"", b"\xff\x00", b"[]", b"{}", b'{"v":1,"ended":[]}', b'{"v":1,"ended":{"x":1}}',
                     b'{"v":1,"ended":{"99999":1}}', b'{"v":1,"ended":{"3":-1}}', b'{"v":1,"ended":{"3":NaN}}',
                     b'{"v":99,"ended":{"3":1}}', b'{"v":1,"ended":{}}'):  # fmt: skip
        assert PollSchedule(Random(1), learned=nonsense).dump() == PollSchedule(Random(1)).dump()


def test_a_reported_duration_counts_only_between_the_two_polls_around_it() -> None:
    schedule = PollSchedule(Random(1))
    for took_s in (-5.0, 1e9, math.inf, math.nan, 0.0) * 20:
        watch = schedule.watch(NOW)
        schedule.still_running(watch, NOW + 9.0)
        schedule.ended(watch, NOW + 11.0, took_s=took_s)
    assert _typical_s(schedule) == pytest.approx(10.0, rel=0.15)


def test_an_ending_not_polled_for_hours_does_not_distort_the_estimate() -> None:
    schedule = a_schedule(8.0)
    before = _typical_s(schedule)
    for _ in range(30):
        schedule.ended(schedule.watch(NOW - 7200.0), NOW)
    assert _typical_s(schedule) == pytest.approx(before, rel=0.2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["watch", "ask", "still", "ended", "drop", "tail"]),
        st.floats(0.0, 200.0),
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    ),
    max_size=120,
)


@given(STEPS, st.sampled_from([1.0, 600.0, 60_000.0]), st.integers(0, 10))
def test_the_next_poll_is_always_in_the_future_and_never_far(
    steps: list[tuple[str, float, float | None]], allowance: float, seed: int
) -> None:
    schedule, now, choose = PollSchedule(Random(seed), polls_per_minute=allowance), NOW, Random(seed)
    watches: list[Watch] = []
    for what, seconds, took_s in steps:
        now += seconds
        if what == "tail":
            schedule.nothing_to_send = not schedule.nothing_to_send
        elif what == "watch" or not watches:
            watches.append(schedule.watch(now))
            assert watches[-1].due_at > now
        else:
            watch = watches[choose.randrange(len(watches))]
            if what == "ask" and not schedule.due(watch, now):
                assert watch.due_at > now
            elif what == "still":
                schedule.still_running(watch, now)
                round_s = 60.0 * (len(watches) + 1) / allowance
                assert now < watch.due_at < now + max(64.0, 2.0 * round_s)
            elif what in {"ended", "drop"}:
                watches.remove(watch)
                schedule.drop(watch) if what == "drop" else schedule.ended(watch, now, took_s=took_s)
        assert isinstance(json.loads(schedule.dump())["ended"], dict)
    for watch in watches:
        asked = 0
        while not schedule.due(watch, watch.due_at):
            asked += 1
        assert asked < 60


def test_running_responses_count_so_that_early_endings_do_not_mislead() -> None:
    draws, table = Random(5), LatencyTable()
    latencies = [draws.lognormvariate(math.log(8.0), 0.7) for _ in range(4000)]
    for latency_s in latencies:
        trace = table.enter()
        if latency_s <= 6.0:
            table.end(trace, latency_s, latency_s)
        else:
            table.advance(trace, 6.0)
    table.refresh()
    for age_s in (2.0, 4.0, 5.5):
        truth = sum(latency_s > age_s for latency_s in latencies) / len(latencies)
        assert table.survival(age_s) == pytest.approx(truth, abs=0.04)


def test_the_table_follows_a_provider_that_becomes_slower() -> None:
    table = LatencyTable()
    for latency_s in [2.0] * 3000 + [20.0] * 3000:
        table.end(table.enter(), latency_s, latency_s)
    table.refresh()
    assert table.geometric_mean_s == pytest.approx(20.0, rel=0.1)


@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(0.0, 1e4)), min_size=1, max_size=60),
    st.floats(0.0, 3e5),
    st.floats(1e-3, 1e4),
)
def test_the_expected_lag_of_a_wait_is_its_price(
    endings: list[tuple[float, float]], seen_s: float, price_s: float
) -> None:
    table = LatencyTable()
    for lower_s, width_s in endings:
        table.end(table.enter(), lower_s, lower_s + width_s)
    table.refresh()
    until_s = table.wait_worth(seen_s, price_s, seen_s + 1e5)
    # The lag cannot grow faster than time, so no poll comes sooner than the price.
    assert seen_s + price_s * 0.999 - 1e-6 <= until_s or until_s == seen_s + 1e5
    assert until_s <= seen_s + 1e5
    if seen_s < until_s < min(seen_s + 1e5, 1.7e5):
        steps = 4000
        width = (until_s - seen_s) / steps
        alive = table.survival(seen_s)
        lag = sum(1.0 - table.survival(seen_s + (i + 0.5) * width) / alive for i in range(steps)) * width
        assert lag == pytest.approx(price_s, rel=0.05, abs=0.01)
