"""Which lane carries out the rest of a run: the cheapest that still leaves time to send all of it by a faster one.

What a slower lane has not done when time gets short is cancelled and is not billed at its price, so a bet on it costs
nothing but time. The time that the background needs for all rows, with a margin, is never bet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import NamedTuple

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import BATCH_WINDOW_S, WINDOWS, Lane

__all__ = ["FEWEST_ROWS", "LaneChoice", "LaneHistory", "choose_lane", "switch_time"]

# So few rows are done soon, whatever they cost.
FEWEST_ROWS = 50
# What is kept free for the background: a slower pace than the learned one, and a cancel, which takes ten minutes for
# a batch (responses API, "Batch").
_SLOWER, _CANCEL_S = 1.3, 15 * 60.0
# Rows per second, while none is learned.
_ASSUMED_PACE = 1.0
# A batch is a bet only if it is more likely than this to end in time: its lines cost nothing until they are done. A
# response in a window that is cancelled may cost something, so there it must be more likely than not.
_LEAST_CHANCE = {Lane.BATCH: 1 / 3, Lane.WINDOW_8H: 1 / 2, Lane.WINDOW_2H: 1 / 2}
# How long whole batches took where that was reported, in seconds; the last one had not ended when it was given up.
_REPORTED_BATCHES = (120.0, 3_600.0, 3_600.0, 8 * 3_600.0, 18.9 * 3_600.0, 24.5 * 3_600.0)
# How many observations the assumption about a lane counts for.
_WEIGHT = 3
# From the slowest to the fastest: a bet that is lost is followed by a faster lane.
_ORDER = (Lane.BATCH, Lane.WINDOW_8H, Lane.WINDOW_2H)


@fast_dataclass
class LaneHistory:
    """What was learned of a model: the paces of the background, in rows per second, and durations in other lanes.

    Durations are seconds; those of a window are of single responses, those of a batch of all its lines.
    """

    paces: tuple[float, ...] = ()
    durations: Mapping[Lane, tuple[float, ...]] = field(default_factory=dict)

    def background_s(self, rows: int) -> float:
        """How long the background takes for so many rows, at a pace that nine of ten runs have kept."""
        paces = sorted(self.paces)
        return rows / (paces[len(paces) // 10] if paces else _ASSUMED_PACE)

    def chance(self, lane: Lane, within_s: float) -> float:
        """How likely what a lane is given has ended after a time."""
        seen = self.durations.get(lane, ())
        ended = sum(took <= within_s for took in seen)
        return (ended + _WEIGHT * _assumed(lane, within_s)) / (len(seen) + _WEIGHT)


class LaneChoice(NamedTuple):
    """The lane to take from now on, why, and when to choose again; None if nothing is left to choose."""

    lane: Lane
    why: str
    reconsider_at: float | None = None


class _Plan(NamedTuple):
    """Take a lane until a time; ``price`` is what a row is expected to cost, in standard prices."""

    price: float
    lane: Lane
    until: float
    chance: float


def choose_lane(
    now: float,
    deadline_at: float | None,
    rows_left: int,
    history: LaneHistory,
    prices: Mapping[Lane, float],
    lanes: Collection[Lane],
) -> LaneChoice:
    """The lane that is expected to cost least and keeps the deadline, if the background can.

    ``prices`` are relative to the standard price; ``lanes`` are those that the model and the rows can take, beside
    the background.
    """
    if deadline_at is None:
        return LaneChoice(Lane.BACKGROUND, "there is no deadline, and so no leave to take long")
    if rows_left < FEWEST_ROWS:
        return LaneChoice(Lane.BACKGROUND, f"there are fewer than {FEWEST_ROWS} rows")
    last_call = switch_time(deadline_at, rows_left, history)
    offered = [lane for lane in _ORDER if lane in lanes and prices.get(lane, 1.0) < 1.0]
    plan = _cheapest(now, last_call, offered, history, prices)
    if plan is None:
        return LaneChoice(Lane.BACKGROUND, _why_background(now, last_call, offered))
    return LaneChoice(plan.lane, _why(plan, now, prices), plan.until)


def switch_time(deadline_at: float, rows_left: int, history: LaneHistory) -> float:
    """When the background must begin with what is left, to be done with it by the deadline."""
    return deadline_at - history.background_s(rows_left) * _SLOWER - _CANCEL_S


def _cheapest(
    now: float, last_call: float, offered: Collection[Lane], history: LaneHistory, prices: Mapping[Lane, float]
) -> _Plan | None:
    """The cheapest plan that ends at ``last_call``; None if the background is not more expensive."""
    best: _Plan | None = None
    lanes = list(offered)
    for index, lane in enumerate(lanes):
        faster = lanes[index + 1 :]
        # Either all the time is given to this lane, or as much as leaves a faster one its whole length.
        for until in (last_call, *(last_call - _length(each) for each in faster)):
            if until <= now:
                continue
            chance = history.chance(lane, until - now)
            if lane is Lane.BATCH and until - now >= BATCH_WINDOW_S:
                chance = 1.0
            if chance <= _LEAST_CHANCE[lane]:
                continue
            after = _cheapest(until, last_call, faster, history, prices)
            price = chance * prices[lane] + (1 - chance) * (after.price if after is not None else 1.0)
            if price < (best.price if best is not None else 1.0):
                best = _Plan(price, lane, until, chance)
    return best


def _length(lane: Lane) -> float:
    return WINDOWS[lane][1] if lane in WINDOWS else BATCH_WINDOW_S


def _assumed(lane: Lane, within_s: float) -> float:
    """How likely it is thought to have ended while nothing is learned; a window is taken to be used evenly."""
    if lane is Lane.BATCH:
        return sum(took <= within_s for took in _REPORTED_BATCHES) / len(_REPORTED_BATCHES)
    return max(0.0, min(1.0, within_s / _length(lane)))


def _why(plan: _Plan, now: float, prices: Mapping[Lane, float]) -> str:
    hours, share = (plan.until - now) / 3600, round(plan.chance * 100)
    return (
        f"it costs {prices[plan.lane]:.0%} of the standard price, and with {hours:.1f} h to spare it is about "
        f"{share} % likely to be done in time; what is not can still be sent by a faster lane"
    )


def _why_background(now: float, last_call: float, offered: Collection[Lane]) -> str:
    if not offered:
        return "no cheaper lane takes this model and these rows"
    if last_call <= now:
        return "the background needs all the time that is left before the deadline"
    return "no cheaper lane is likely to end before the deadline"
