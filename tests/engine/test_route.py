"""Each outcome of a step reaches the one place from which the next task takes it."""

from __future__ import annotations

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import After, AwaitingTools, Finished, Halted, Held, Queued, Returned, Waiting
from orchestrator.engine.route import Router
from orchestrator.engine.tasks.send_queue import QueueName, SendQueue

from .builders import NOW, Rig, a_prepared, an_open_response

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue(rig: Rig) -> SendQueue:
    made = SendQueue(rig.status)
    # As after the store was first asked.
    made.delayed_at = None
    rig.status.queue_empty = True
    return made


def changed(rig: Rig, queue: SendQueue, router: Router) -> set[str]:
    """Which of the places has something now."""
    places = {
        "poll queue": len(rig.status.poll_queue),
        "send queue": len(queue),
        "store": queue.delayed_at is not None,
        "tools": router.awaiting_tools.qsize(),
        "held": rig.status.held,
        "halted": rig.status.halted is not None,
    }
    return {name for name, value in places.items() if value}


@pytest.mark.parametrize(
    ("after", "place"),
    [
        (Waiting(an_open_response(1), NOW), {"poll queue"}),
        (Queued(NOW + 5), {"store"}),
        (Returned(a_prepared(1)), {"send queue"}),
        (AwaitingTools(an_open_response(1), [], 0), {"tools"}),
        (Finished(), set()),
        (Finished(unblocked=True), {"store"}),
        (Held(), {"held"}),
        (Halted("budget", "the budget is used up", collect=True), {"halted"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
async def test_an_outcome_goes_to_one_place(rig: Rig, queue: SendQueue, after: After, place: set[str]) -> None:
    router = Router(rig.run, queue)
    router.route(after)
    assert changed(rig, queue, router) == place
    assert rig.status.running_tools == (place == {"tools"})
    assert rig.status.queue_empty == (place != {"store"})


async def test_the_soonest_request_that_was_put_off_counts(rig: Rig, queue: SendQueue) -> None:
    router = Router(rig.run, queue)
    for after_s in (9.0, 4.0, 7.0):
        router.route(Queued(NOW + after_s))
    assert queue.delayed_at == NOW + 4
    router.route(Finished(unblocked=True))
    assert queue.delayed_at == NOW


async def test_a_returned_request_is_first_again_and_still_in_hand(rig: Rig, queue: SendQueue) -> None:
    first, second = a_prepared(1, fingerprint=b"one"), a_prepared(2)
    for prepared in (first, second):
        queue.add(prepared)
    key = QueueName("main", "gpt-5-mini", Lane.BACKGROUND)
    queue.ready[key].popleft()
    queue.forget(first)
    assert (queue.in_hand, queue.asked) == ({2}, {})
    Router(rig.run, queue).route(Returned(first))
    assert list(queue.ready[key]) == [first, second]
    assert (queue.in_hand, queue.asked) == ({1, 2}, {b"one": 1})


async def test_a_response_wakes_the_poller_if_it_is_the_first_one_due(rig: Rig, queue: SendQueue) -> None:
    router = Router(rig.run, queue)
    router.route(Waiting(an_open_response(1), NOW + 5))
    await rig.status.poll_signal.wait()
    router.route(Waiting(an_open_response(2), NOW + 9))
    assert not rig.status.poll_signal._is_set
