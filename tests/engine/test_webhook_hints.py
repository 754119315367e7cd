"""What an event does: it has an open response polled, once, and asks whose one is that no request has."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.clock import Signal
from orchestrator.engine.items import AwaitsEvent, OpenResponse, Waiting
from orchestrator.engine.tasks.poll_queue import PollQueues
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.policy.polling.announcements import Announced

from .builders import NOW, an_open_response

pytestmark = pytest.mark.anyio


class Followed:
    """Hints beside the queue that they change; each response is due in a minute."""

    def __init__(self, *, wait_s: float | None = None) -> None:
        self.queue, self.wakes = PollQueues(), Signal()
        self.hints = WebhookHints(self.queue, self.wakes, wait_s=wait_s)

    def open(self, number: int) -> OpenResponse:
        open_ = an_open_response(number)
        self.hints.opened(open_, NOW)
        self.queue.push(Waiting(open_, NOW + 60))
        return open_

    def end(self, open_: OpenResponse, now: float, *, seen: bool = True) -> None:
        if self.queue.next_due is not None:
            self.queue.of(0).pop()
        self.hints.ended(open_, now, seen=seen)


async def test_an_event_has_its_response_polled_at_once_and_no_other() -> None:
    at = Followed()
    for number in (1, 2, 3):
        at.open(number)
    assert at.hints.receive("resp_2", NOW + 1) is True
    assert at.queue.next_due == NOW + 1
    polled = at.queue.of(0).pop()
    assert (polled.open.response_id, polled.forced) == ("resp_2", True)
    assert at.queue.next_due == NOW + 60
    assert at.wakes.is_set


async def test_a_repeated_event_costs_no_second_poll_until_two_seconds_later() -> None:
    at = Followed()
    open_ = at.open(1)
    at.hints.receive("resp_1", NOW + 1)
    at.queue.push(Waiting(at.queue.of(0).pop().open, NOW + 60))
    assert at.hints.receive("resp_1", NOW + 2) is True
    assert at.queue.next_due == NOW + 60
    at.hints.receive("resp_1", NOW + 3)
    assert at.queue.next_due == NOW + 3
    at.end(open_, NOW + 4)
    assert at.hints.receive("resp_1", NOW + 9) is True
    assert len(at.queue) == 0
    assert not at.hints.unknown(until=NOW + 9)


async def test_an_event_before_the_reply_has_the_response_polled_when_it_is_known() -> None:
    at = Followed()
    taken = at.hints.receive("resp_1", NOW)
    assert isinstance(taken, asyncio.Future)
    at.open(1)
    assert taken.result()
    assert at.queue.next_due == NOW
    assert not at.hints.is_busy


@pytest.mark.parametrize("taken", [True, False])
async def test_the_sender_learns_whether_an_unknown_response_was_taken(taken: bool) -> None:
    at = Followed()
    answer = at.hints.receive("resp_of_others", NOW)
    repeated = at.hints.receive("resp_of_others", NOW)
    assert isinstance(answer, asyncio.Future)
    assert isinstance(repeated, asyncio.Future)
    assert at.hints.unknown(until=NOW - 1) == []
    assert at.hints.unknown(until=NOW) == ["resp_of_others"]
    at.hints.forget("resp_of_others", taken=taken)
    assert answer.result() is repeated.result() is taken
    # What is known to be of others is not asked for again.
    again = at.hints.receive("resp_of_others", NOW + 1)
    assert (again is True) == taken


async def test_ends_that_events_announce_are_counted_and_a_late_event_counts_too() -> None:
    at = Followed()
    for number in range(25):
        open_ = at.open(number)
        if number % 2:
            at.hints.receive(open_.response_id, NOW)
            at.end(open_, NOW)
        else:
            at.end(open_, NOW)
            assert at.hints.receive(open_.response_id, NOW + 1) is True
    shown = [at.hints.announcements.announced]
    at.end(at.open(100), NOW)
    shown.append(at.hints.announcements.announced)
    at.end(at.open(101), NOW + 3, seen=False)
    shown.append(at.hints.announcements.announced)
    assert shown == [Announced.RELIABLY, Announced.RELIABLY, Announced.NOT]


async def test_a_request_in_doubt_waits_as_long_as_is_set_or_as_responses_take() -> None:
    open_ = an_open_response(1)
    assert Followed(wait_s=7.0).hints.wait_s(open_) == 7.0
    at = Followed()
    assert at.hints.wait_s(open_) == 60.0
    at.hints.await_event(AwaitsEvent(open_, NOW + 60, counted=True))
    assert at.hints.is_busy
    assert at.hints.has_doubts
