"""The choice of a lane: by rule, and over a thousand simulated nights."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from statistics import fmean

import pytest

from orchestrator.core.lanes import BATCH_WINDOW_S, WINDOWS, Lane
from orchestrator.policy.auto_lane import LaneChoice, LaneHistory, choose_lane, switch_time

HOUR = 3600.0
NOW = 1_790_000_000.0
PRICES = {Lane.BACKGROUND: 1.0, Lane.WINDOW_2H: 0.7, Lane.WINDOW_8H: 0.6, Lane.BATCH: 0.5}
ALL = (Lane.WINDOW_2H, Lane.WINDOW_8H, Lane.BATCH)
WINDOW_LANES = (Lane.WINDOW_2H, Lane.WINDOW_8H)
# A thousand rows take a hundred seconds.
QUICK = LaneHistory(paces=(10.0,))


def choose(
    hours: float | None, *, rows: int = 1_000, history: LaneHistory = QUICK, lanes: object = ALL
) -> LaneChoice:
    deadline_at = None if hours is None else NOW + hours * HOUR
    assert isinstance(lanes, tuple)
    return choose_lane(NOW, deadline_at, rows, history, PRICES, lanes)


def test_without_a_deadline_nothing_is_slower_than_today() -> None:
    assert choose(None) == LaneChoice(Lane.BACKGROUND, "there is no deadline, and so no leave to take long")


def test_a_few_rows_are_not_worth_a_wait() -> None:
    assert choose(100, rows=49).lane is Lane.BACKGROUND
    assert choose(100, rows=50).lane is Lane.BATCH


@pytest.mark.parametrize(
    ("hours", "lane"),
    [
        (0.2, Lane.BACKGROUND),
        (3, Lane.WINDOW_2H),
        (9, Lane.WINDOW_8H),
        (5, Lane.WINDOW_2H),
        (26, Lane.WINDOW_8H),
    ],
)
def test_the_longest_window_that_fits_is_the_cheapest(hours: float, lane: Lane) -> None:
    assert choose(hours, lanes=WINDOW_LANES).lane is lane


def test_a_day_is_enough_for_a_batch_whatever_was_learned() -> None:
    slow = replace(QUICK, durations={Lane.BATCH: (23 * HOUR,) * 30})
    assert choose(25, history=slow).lane is Lane.BATCH
    assert choose(20, history=slow).lane is Lane.WINDOW_8H


@pytest.mark.parametrize(("ended", "lane"), [(0, Lane.BACKGROUND), (28, Lane.BATCH)])
def test_a_batch_is_a_bet_only_where_it_often_ends_in_time(ended: int, lane: Lane) -> None:
    durations = (600.0,) * ended + (20 * HOUR,) * (30 - ended)
    assert choose(2, history=replace(QUICK, durations={Lane.BATCH: durations}), lanes=(Lane.BATCH,)).lane is lane


def test_where_every_batch_is_quick_it_beats_the_windows() -> None:
    quick = replace(QUICK, durations={Lane.BATCH: (600.0,) * 50})
    assert choose(9, history=quick).lane is Lane.BATCH


def test_rows_that_take_all_the_time_go_at_once() -> None:
    choice = choose(9, rows=300_000)
    assert choice == (Lane.BACKGROUND, "the background needs all the time that is left before the deadline", None)
    unknown = choose(1, rows=3_000, history=LaneHistory())
    assert unknown.lane is Lane.BACKGROUND


def test_no_lane_is_taken_that_is_not_offered_or_not_cheaper() -> None:
    assert choose(100, lanes=()).lane is Lane.BACKGROUND
    same = choose_lane(NOW, NOW + 100 * HOUR, 1_000, QUICK, dict.fromkeys(Lane, 1.0), ALL)
    assert same == (Lane.BACKGROUND, "no cheaper lane takes this model and these rows", None)
    assert choose(100, lanes=(Lane.FLEX, Lane.SYNC)).lane is Lane.BACKGROUND


def test_one_slow_run_in_ten_does_not_decide() -> None:
    usual = (10.0,) * 19
    assert LaneHistory(paces=(0.01, *usual)).background_s(1_000) == 100
    assert LaneHistory(paces=(0.5, 10.0)).background_s(1_000) == 2_000
    assert LaneHistory().background_s(60) == 60


@pytest.mark.parametrize("hours", [0.1, 1, 2.5, 7, 9, 30, 1000])
def test_it_is_reconsidered_while_the_background_can_still_do_it_all(hours: float) -> None:
    choice = choose(hours)
    if choice.lane is not Lane.BACKGROUND:
        assert choice.reconsider_at is not None
        assert NOW < choice.reconsider_at <= switch_time(NOW + hours * HOUR, 1_000, QUICK)
        assert choice.reconsider_at + QUICK.background_s(1_000) < NOW + hours * HOUR


def test_the_reason_names_price_and_chance() -> None:
    assert choose(9, lanes=WINDOW_LANES).why == (
        "it costs 60% of the standard price, and with 8.7 h to spare it is about 100 % likely to be done in "
        "time; what is not can still be sent by a faster lane"
    )


# ── a thousand nights ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Night:
    """What a night brings; only the oracle knows it in advance."""

    rows: int
    hours: float
    rows_per_s: float
    batch_s: float
    # How much of its window a response takes at most.
    window_use: float

    @property
    def deadline_at(self) -> float:
        return NOW + self.hours * HOUR

    @property
    def background_s(self) -> float:
        return self.rows / self.rows_per_s

    def share_done(self, lane: Lane, within_s: float) -> float:
        """The share of the rows that a lane has answered after a time."""
        if lane is Lane.BATCH:
            return float(self.batch_s <= within_s)
        return max(0.0, min(1.0, within_s / (WINDOWS[lane][1] * self.window_use)))

    def whole_s(self, lane: Lane) -> float:
        """How long a lane takes for all rows."""
        return self.batch_s if lane is Lane.BATCH else WINDOWS[lane][1] * self.window_use


def nights(count: int, *, median_h: float, spread: float) -> list[Night]:
    rng = random.Random(count + int(median_h * 100))
    return [
        Night(
            rows=rng.choice([60, 500, 2_000, 10_000, 40_000]),
            hours=rng.uniform(0.5, 30),
            rows_per_s=rng.uniform(4.0, 6.0),
            # A batch that is not done after a day has expired.
            batch_s=min(BATCH_WINDOW_S, median_h * HOUR * rng.lognormvariate(0, spread)),
            window_use=rng.uniform(0.3, 1.0),
        )
        for _ in range(count)
    ]


def carry_out(night: Night, history: LaneHistory) -> tuple[float, float, LaneHistory]:
    """What a row costs, when the last one is done, and what was learned, if the choice is followed."""
    now, left, paid = NOW, 1.0, 0.0
    while True:
        choice = choose_lane(now, night.deadline_at, round(night.rows * left), history, PRICES, ALL)
        if choice.lane is Lane.BACKGROUND:
            history = replace(history, paces=(*history.paces, night.rows_per_s)[-20:])
            return paid + left, now + left * night.background_s, history
        assert choice.reconsider_at is not None
        done = night.share_done(choice.lane, choice.reconsider_at - now)
        ends_at = now + night.whole_s(choice.lane)
        history = learned(history, choice.lane, night)
        paid += left * done * PRICES[choice.lane]
        if done >= 1:
            return paid, ends_at, history
        left *= 1 - done
        # The cancel takes its time.
        now = choice.reconsider_at + 600


def learned(history: LaneHistory, lane: Lane, night: Night) -> LaneHistory:
    durations = {**history.durations, lane: (*history.durations.get(lane, ()), night.whole_s(lane))[-50:]}
    return replace(history, durations=durations)


def oracle(night: Night) -> float:
    in_time = [PRICES[lane] for lane in ALL if night.whole_s(lane) <= night.hours * HOUR]
    return min([1.0, *in_time])


@pytest.mark.parametrize(
    ("median_h", "spread"), [(0.5, 1.0), (2.0, 1.0), (4.0, 1.5), (12.0, 0.7), (30.0, 0.5)], ids=str
)
def test_a_thousand_nights_meet_their_deadlines_at_a_good_price(median_h: float, spread: float) -> None:
    history, paid, best, missed = LaneHistory(paces=(4.0,)), [], [], 0
    for night in nights(1_000, median_h=median_h, spread=spread):
        price, done_at, history = carry_out(night, history)
        if NOW + night.background_s <= night.deadline_at:
            missed += done_at > night.deadline_at
            paid.append(price)
            best.append(oracle(night))
    assert len(paid) > 900
    print(f"median {median_h} h: {fmean(paid):.3f} of the standard price, oracle {fmean(best):.3f}, {missed} missed")  # noqa: T201
    assert missed == 0
    assert fmean(paid) <= 1.1 * fmean(best)
