"""Which requests may be sent now: a pure decision over queues, rate limits, budget and free places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.core.lanes import Lane
from orchestrator.engine.allowances import Allowances
from orchestrator.engine.items import Prepared
from orchestrator.engine.outages import Outages
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.policy.errors.first_tries import MOST_UNSEEN
from orchestrator.policy.pricing.budget import Budget
from orchestrator.policy.rate_limits.limits import Pools

__all__ = ["Admission", "FreePlaces", "admit", "free_places"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What leaves the queues now, what holds the rest back, and when to ask again.

    ``oversized`` requests leave them too but can never be sent: the provider has reported a limit for a whole minute
    that is too small for them. ``ask_again_at`` is None if only an event (a freed place, a settled charge) can change
    the answer.
    """

    admitted: tuple[Prepared, ...]
    oversized: tuple[Prepared, ...] = ()
    held_by: str | None = None
    ask_again_at: float | None = None


class FreePlaces(NamedTuple):
    """How many more creates may be on the wire: calls that return at once, and calls that are held to the end."""

    short: int
    held: int


_NONE = FreePlaces(0, 0)


def admit(
    now: float,
    queues: Mapping[tuple[str, str, Lane], deque[Prepared]],
    *,
    pools: Pools,
    budget: Budget,
    places: Callable[[Lane], int],
) -> Admission:
    """Take from the head of each queue (by stage, model and lane) what may be sent.

    Within a queue the order is strict: if small requests could overtake, a large one would wait for ever. A model
    whose pool is exhausted does not hold up another.
    """
    admitted: list[Prepared] = []
    oversized: list[Prepared] = []
    held_by: str | None = None
    ask_again_at: float | None = None
    for (stage, model, lane), queue in queues.items():
        if lane is Lane.BATCH:
            # These wait for a batch, which has other limits.
            continue
        pool, free = pools.pool(model), places(lane)
        while queue:
            head = queue[0]
            if pool.never_fits(head.tokens):
                oversized.append(queue.popleft())
                continue
            if len(admitted) >= free:
                break
            if not budget.reserve(head.worst_case_pusd or 0, stage):
                held_by = "budget"
                if budget.has_shares:
                    break  # another stage may still have what is set apart for it
                return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)
            if not pool.take(now, head.tokens):
                budget.release(head.worst_case_pusd or 0, stage)
                ready_at = pool.ready_at(now, head.tokens)
                ask_again_at = ready_at if ask_again_at is None else min(ask_again_at, ready_at)
                held_by = "rate limit"
                break
            admitted.append(queue.popleft())
    return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)


def free_places(
    now: float, status: RunStatus, stages: Stages, allowances: Allowances, outages: Outages
) -> FreePlaces:
    """How many more creates may be on the wire now."""
    in_flight = status.in_flight
    at_once, held_at_once = allowances.creates_at_once, allowances.held_at_once
    if status.resumed_polls.holds_sending and in_flight:
        return _NONE
    most_open = allowances.places.count(now)
    for stage in stages.values():
        if not stage.cache_is_warm:
            # One request alone: those that begin like it then find their beginning in the provider's cache.
            return _NONE if in_flight else FreePlaces(1, 1)
        if not stage.first_creates.has_accepted:
            at_once = allowances.first_creates_at_once
            held_at_once = min(held_at_once, at_once)
        if stage.first_polls.finds_nothing and in_flight:
            return _NONE
        if stage.first_polls.sends_few:
            most_open = min(most_open, MOST_UNSEEN)
    by_creates = outages.creates.places(now, status.sending)
    by_responses = outages.responses.places(now, in_flight)
    free = max(0, min(most_open - in_flight, by_creates, by_responses))
    held = status.holding
    return FreePlaces(max(0, min(free, at_once - status.sending + held)), max(0, min(free, held_at_once - held)))
