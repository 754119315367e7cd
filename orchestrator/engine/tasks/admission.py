"""Which requests may be sent now: a pure decision over queues, rate limits, budget and free places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.tasks.capacity import Capacity
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.policy.pricing.budget import Budget

__all__ = ["Admission", "admit"]


@fast_dataclass(kw_only=False)
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


def admit(
    now: float,
    queues: Mapping[QueueName, deque[Prepared]],
    *,
    budget: Budget,
    capacity_of: Callable[[QueueName], Capacity],
) -> Admission:
    """Take from the head of each queue what may be sent.

    Within a queue the order is strict: if small requests could overtake, a large one would wait for ever. A model
    whose pool is exhausted does not hold up another.
    """
    admitted: list[Prepared] = []
    oversized: list[Prepared] = []
    held_by: str | None = None
    ask_again_at: float | None = None
    for name, queue in queues.items():
        if name.lane is Lane.BATCH or not queue:
            # These wait for a batch, which has other limits.
            continue
        capacity = capacity_of(name)
        while queue:
            head = queue[0]
            if capacity.never_fits(head.tokens):
                oversized.append(queue.popleft())
                continue
            if capacity.is_full():
                break
            if not budget.reserve(head.worst_case_pusd or 0, name.stage):
                held_by = "budget"
                if budget.has_shares:
                    break  # another stage may still have what is set apart for it
                return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)
            taken = capacity.take(now, head)
            if taken is None:
                budget.release(head.worst_case_pusd or 0, name.stage)
                ready_at = capacity.ready_at(now, head.tokens)
                ask_again_at = ready_at if ask_again_at is None else min(ask_again_at, ready_at)
                held_by = "rate limit"
                break
            queue.popleft()
            admitted.append(taken)
    return Admission(tuple(admitted), tuple(oversized), held_by, ask_again_at)
