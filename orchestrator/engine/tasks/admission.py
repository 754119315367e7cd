"""Who may be sent now: one pure decision over the queues, the rate limits, the budget and the free places."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.engine.items import Prepared
from orchestrator.policy.pricing.budget import Budget
from orchestrator.policy.rate_limits.limits import Pools

__all__ = ["Admission", "admit"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What leaves the queues now, what holds the rest back, and when it is worth asking again.

    ``oversized`` leave them too, but can never be sent: the limit of a whole minute, as the provider has told it
    meanwhile, is too small for them. ``ask_again_at`` is None where only an event (a freed place, a settled charge)
    can change the answer.
    """

    admitted: tuple[Prepared, ...]
    oversized: tuple[Prepared, ...] = ()
    held_by: str | None = None
    ask_again_at: float | None = None


def admit(
    now: float, queues: Mapping[str, deque[Prepared]], *, pools: Pools, budget: Budget, places: int
) -> Admission:
    """Take from the head of each model's queue what may be sent.

    Within a model the order is strict: nobody overtakes, or a large request would wait for ever behind small
    ones. One model whose pool is exhausted does not hold up another.
    """
    admitted: list[Prepared] = []
    oversized: list[Prepared] = []
    held_by: str | None = None
    ask_again_at: float | None = None
    for model, queue in queues.items():
        pool = pools.pool(model)
        while queue:
            head = queue[0]
            if pool.never_fits(head.tokens):
                oversized.append(queue.popleft())
                continue
            if len(admitted) >= places:
                return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)
            if not budget.reserve(head.worst_case_pusd or 0):
                return Admission(tuple(admitted), tuple(oversized), "budget", ask_again_at)
            if not pool.take(now, head.tokens):
                budget.release(head.worst_case_pusd or 0)
                ready_at = pool.ready_at(now, head.tokens)
                ask_again_at = ready_at if ask_again_at is None else min(ask_again_at, ready_at)
                held_by = "rate limit"
                break
            admitted.append(queue.popleft())
    return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)
