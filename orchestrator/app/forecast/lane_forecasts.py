"""What the same rows cost in each lane, when they are done there, and what it may come to if time gets short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from orchestrator.app.batch_wiring import LearnedOfBatches
from orchestrator.app.connections import lanes_snapshot
from orchestrator.app.forecast.estimates import Estimate, LaneForecast, Span, Variant
from orchestrator.app.lane_plans import lane_plans, offered_lanes
from orchestrator.config import Config
from orchestrator.core.lanes import AUTO, BATCH_WINDOW_S, WINDOWS, Lane
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.job.spec import Job
from orchestrator.policy.auto_lane import LaneHistory, choose_lane, switch_time
from orchestrator.report import formatting
from orchestrator.stores.base import LearnedReader

__all__ = ["compare_lanes", "lanes_object", "lanes_text", "learned_history", "variant_of"]

_CHEAPEST_FIRST = (Lane.BATCH, Lane.WINDOW_8H, Lane.WINDOW_2H, Lane.BACKGROUND)


def variant_of(lane: Lane) -> Variant:
    """How a request of a lane is priced."""
    if lane is Lane.BATCH:
        return Variant(tier="batch", window="soonest")
    return Variant(tier="default", window=WINDOWS[lane][0] if lane in WINDOWS else "soonest")


async def learned_history(config: Config, reader: LearnedReader | None, model: str) -> tuple[LaneHistory, LaneMemory]:
    """What earlier runs have learned of a model's lanes."""
    batches = LearnedOfBatches(config)
    memory = LaneMemory(batches.durations.of)
    if reader is not None:
        for name, load in ((batches.snapshot.name, batches.snapshot.load), (lanes_snapshot(config), memory.load)):
            kept = await reader.recall(name)
            if kept is not None:
                load(kept)
    return memory.history(model), memory


async def compare_lanes(
    job: Job,
    config: Config,
    *,
    rows: int,
    now: float,
    reader: LearnedReader | None,
    price: Callable[[Variant], Estimate],
) -> tuple[LaneForecast, ...]:
    """Each lane that the job may take; nothing for a job that has no use for a slower one."""
    if job.lane == "background" and job.deadline is None:
        return ()
    plan = lane_plans(config, job, [MAIN_STAGE])[MAIN_STAGE]
    history, memory = await learned_history(config, reader, plan.model)
    offered = [lane for lane in offered_lanes(config, job) if not memory.refuses(plan.model, lane)]
    deadline_at = job.deadline_at(now)
    choice = choose_lane(now, deadline_at, rows, history, plan.prices, offered)
    begins = choice.lane.value if job.lane == AUTO else job.lane
    standard = price(variant_of(Lane.BACKGROUND)).cost
    last_call = None if deadline_at is None else switch_time(deadline_at, rows, history)
    return tuple(
        _forecast(
            lane,
            price(variant_of(lane)).cost,
            standard,
            ends_in_s=_ends_in(lane, rows, history),
            chance=None if last_call is None or lane is Lane.BACKGROUND else history.chance(lane, last_call - now),
            chosen=lane.value == begins,
            why=choice.why if lane.value == begins and job.lane == AUTO else "",
        )
        for lane in _CHEAPEST_FIRST
        if lane in offered or lane is Lane.BACKGROUND
    )


def _forecast(
    lane: Lane, cost: Span | None, standard: Span | None, *, ends_in_s: float, chance: float | None, **more: Any
) -> LaneForecast:
    low, high = _usual(cost), _usual(standard)
    hurried = None if low is None or high is None or lane is Lane.BACKGROUND else high
    half = None if hurried is None or low is None else (low + hurried + 1) // 2
    return LaneForecast(
        lane=lane, cost=cost, ends_in_s=ends_in_s, chance=chance, half_pusd=half, all_pusd=hurried, **more
    )


def _usual(cost: Span | None) -> Picodollars | None:
    if cost is None:
        return None
    return cost.high if cost.likely is None else cost.likely


def _ends_in(lane: Lane, rows: int, history: LaneHistory) -> float:
    if lane is Lane.BACKGROUND:
        return history.background_s(rows)
    took = history.durations.get(lane, ())
    if took:
        return median(took)
    return WINDOWS[lane][1] if lane in WINDOWS else BATCH_WINDOW_S


def lanes_object(lanes: tuple[LaneForecast, ...]) -> list[Mapping[str, Any]]:
    """The lanes for scripts."""
    return [
        {
            "lane": each.lane.value,
            "chosen": each.chosen,
            "cost_usd": _usd(_usual(each.cost)),
            "ends_in_s": None if each.ends_in_s is None else round(each.ends_in_s),
            "chance_in_time": None if each.chance is None else round(each.chance, 3),
            "half_hurried_usd": _usd(each.half_pusd),
            "all_hurried_usd": _usd(each.all_pusd),
            "why": each.why,
        }
        for each in lanes
    ]


def _usd(amount: Picodollars | None) -> str | None:
    return None if amount is None else format_usd(amount)


def lanes_text(lanes: tuple[LaneForecast, ...]) -> list[str]:
    """One line for each lane, the cheapest first, and the reason of the one that is taken."""
    width = max(len(each.lane) for each in lanes)
    lines = [f"{'→' if each.chosen else ' '} {each.lane:<{width}}  {_words(each)}" for each in lanes]
    return [*lines, *(each.why for each in lanes if each.why)]


def _words(each: LaneForecast) -> str:
    cost = _usual(each.cost)
    words = ["no known price" if cost is None else formatting.short_dollars(cost)]
    if each.ends_in_s is not None:
        words.append(f"done in about {formatting.duration(each.ends_in_s)}")
    if each.chance is not None:
        words.append(f"{each.chance:.0%} likely to be done in time")
    if each.half_pusd is not None and each.all_pusd is not None:
        half, whole = formatting.short_dollars(each.half_pusd), formatting.short_dollars(each.all_pusd)
        words.append(f"{half} if half must be hurried, {whole} if all")
    return ", ".join(words)
