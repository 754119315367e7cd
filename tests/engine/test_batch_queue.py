"""Requests that wait for a batch: apart from those that are sent alone, and never forgotten."""

from __future__ import annotations

from collections import deque

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.tasks.admission import admit
from orchestrator.engine.tasks.send_queue import QueueName, SendQueue
from orchestrator.policy.pricing.budget import Budget
from orchestrator.policy.rate_limits.limits import Pools

from .builders import NOW, a_prepared, capacity_at


def queue_of(*requests: Prepared) -> SendQueue:
    queue = SendQueue(RunStatus(), ["main"])
    queue.delayed_at = None
    for prepared in requests:
        queue.add(prepared)
    return queue


def a_line(number: int, model: str = "gpt-5-mini") -> Prepared:
    return a_prepared(number, lane=Lane.BATCH, model=model)


def test_what_waits_for_a_batch_is_never_sent_alone() -> None:
    queue = queue_of(a_line(1), a_prepared(2), a_line(3))
    pools = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)
    admission = admit(NOW, queue.ready, budget=Budget(), capacity_of=capacity_at(pools))
    assert [each.request.id for each in admission.admitted] == [2]
    assert queue.for_batches() == [("main", "gpt-5-mini")]
    assert len(queue) == 2


def test_a_line_has_no_limit_of_a_minute() -> None:
    huge = a_prepared(1, lane=Lane.BATCH, tokens=10**9)
    queue = queue_of(huge)
    pools = Pools(requests_per_minute=1, tokens_per_minute=1, now=NOW)
    admission = admit(NOW, queue.ready, budget=Budget(), capacity_of=capacity_at(pools))
    assert (admission.admitted, admission.oversized) == ((), ())


def test_each_model_has_a_batch_of_its_own() -> None:
    queue = queue_of(a_line(1), a_line(2, "gpt-5"), a_line(3))
    assert queue.for_batches() == [("main", "gpt-5-mini"), ("main", "gpt-5")]
    assert [each.request.id for each in queue.ready[QueueName("main", "gpt-5-mini", Lane.BATCH)]] == [1, 3]
    queue.ready[QueueName("main", "gpt-5", Lane.BATCH)] = deque()
    assert queue.for_batches() == [("main", "gpt-5-mini")]


def test_a_queue_is_drained_when_nothing_is_left_to_gather() -> None:
    queue = queue_of(a_line(1))
    queue.all_read = True
    seen = [queue.drained]
    queue.ready[QueueName("main", "gpt-5-mini", Lane.BATCH)].popleft()
    seen.append(queue.drained)
    queue.put_off(NOW + 5)
    assert [*seen, queue.drained] == [False, True, False]


def test_what_is_given_back_is_read_from_the_store_again() -> None:
    first, second = a_line(1), a_line(2)
    queue = queue_of(first, second)
    queue.ready[QueueName("main", "gpt-5-mini", Lane.BATCH)].clear()
    assert queue.in_hand == {1, 2}
    queue.read_again([first, second])
    assert queue.in_hand == set()
    assert queue.to_reread == {"main"}
    assert queue.delayed_at == 0.0


def test_a_batch_at_the_provider_is_in_flight() -> None:
    status = RunStatus(batches=1, queue_empty=True)
    assert (status.in_flight, status.done) == (1, False)
    status.batches = 0
    assert status.done
