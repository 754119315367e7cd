"""The heap of open responses: due in order, and at once if something asks for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.items import Waiting
from orchestrator.engine.tasks.poll_queue import PollQueue

from .builders import NOW, an_open_response


def waiting(number: int, after_s: float) -> Waiting:
    return Waiting(an_open_response(number), NOW + after_s)


@given(st.lists(st.floats(0, 1_000), max_size=20))
def test_responses_come_out_by_due_time_and_then_in_order(times: list[float]) -> None:
    queue = PollQueue()
    for number, after_s in enumerate(times):
        queue.push(waiting(number, after_s))
    assert len(queue) == len(times)
    popped = [queue.pop() for _ in times]
    assert [(each.poll_at, each.open.request_id) for each in popped] == sorted(
        (NOW + after_s, number) for number, after_s in enumerate(times)
    )
    assert queue.next_due is None


def test_a_push_says_whether_the_poller_must_wake() -> None:
    queue = PollQueue()
    assert queue.push(waiting(1, 5))
    assert not queue.push(waiting(2, 5))
    assert not queue.push(waiting(3, 9))
    assert queue.push(waiting(4, 1))
    assert queue.next_due == NOW + 1


def test_a_cancel_makes_all_due() -> None:
    queue = PollQueue()
    for number in range(3):
        queue.push(waiting(number, 100 - number))
    queue.poll_all_now(NOW)
    assert queue.next_due == NOW
    assert [(each.open.request_id, each.forced) for each in (queue.pop(), queue.pop(), queue.pop())] == [
        (0, True),
        (1, True),
        (2, True),
    ]


def test_one_response_can_be_made_due() -> None:
    queue = PollQueue()
    queue.push(waiting(1, 5))
    late = waiting(2, 50)
    queue.push(late)
    queue.poll_now(late.open, NOW)
    assert queue.pop() == Waiting(late.open, NOW, forced=True)


def test_a_response_that_is_being_polled_is_due_again_after_that() -> None:
    queue = PollQueue()
    queue.push(waiting(1, 0))
    polled = queue.pop().open
    queue.poll_now(polled, NOW + 1)
    queue.push(Waiting(polled, NOW + 60))
    assert queue.pop() == Waiting(polled, NOW + 1, forced=True)
    queue.push(Waiting(polled, NOW + 60))
    assert queue.next_due == NOW + 60


def test_what_was_asked_for_a_settled_response_is_forgotten() -> None:
    queue = PollQueue()
    settled = an_open_response(1)
    queue.poll_now(settled, NOW)
    queue.forget(settled)
    queue.push(Waiting(settled, NOW + 60))
    assert queue.next_due == NOW + 60
