"""Events of the provider as hints: which response to poll now, and which ids no request of this process has.

An event settles nothing. It may come before the reply that names its response, twice, late, or never.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.core.clock import Signal
from orchestrator.engine.items import AwaitsEvent, OpenResponse
from orchestrator.engine.tasks.poll_queue import PollQueues
from orchestrator.policy.polling.announcements import Announcements

__all__ = ["WebhookHints"]

_Value = TypeVar("_Value")

# A repeated event has a response polled again only after this time.
_AGAIN_AFTER_S = 2.0
# An event may come this much later than a poll that saw the end.
_LATE_S = 2.0
# So many ids are kept: of responses that have ended, and of those that no request has.
_MOST = 20_000
# Without a setting: the share of responses that take longer than a request in doubt waits, beside the delivery.
_SLOWEST = 0.01
_DELIVERY_S = 60.0


class WebhookHints:
    """The open responses by their ids. Without webhooks a run has none of this, and pays nothing for it."""

    def __init__(
        self, poll_queue: PollQueues, poll_signal: Signal, *, wait_s: float | None, has_doubts: bool = False
    ) -> None:
        self._wait_s = wait_s
        # Whether replies to creates were ever lost; else no unknown id can be ours.
        self.has_doubts = has_doubts
        self.announcements = Announcements()
        # Requests in doubt that wait for an event, by attempt.
        self.awaiting: dict[int, AwaitsEvent] = {}
        # An id came that no request has, or a request waits for one.
        self.signal = Signal()
        self._queue = poll_queue
        self._poll_signal = poll_signal
        self._open: dict[str, OpenResponse] = {}
        # When each open response was announced.
        self._announced_at: dict[str, float] = {}
        # Ends that a poll saw first, and when; the oldest first.
        self._unannounced: OrderedDict[str, float] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        # Ids that no request has: the oldest first.
        self._unknown: OrderedDict[str, _Unknown] = OrderedDict()

    def opened(self, open_: OpenResponse, now: float) -> None:
        """A response is open; one that was announced before it was known is polled at once."""
        if open_.response_id in self._open:
            return
        self._open[open_.response_id] = open_
        if (unknown := self._unknown.pop(open_.response_id, None)) is not None:
            unknown.answer(taken=True)
            self._announced_at[open_.response_id] = now
            self._queue.poll_now(open_, now)

    def ended(self, open_: OpenResponse, now: float, *, seen: bool) -> None:
        """A response is open no more; ``seen``: a poll saw it end."""
        if self._open.pop(open_.response_id, None) is None:
            return
        self._queue.forget(open_)
        if self._announced_at.pop(open_.response_id, None) is not None:
            self.announcements.ended(announced=True)
        elif seen:
            self._unannounced[open_.response_id] = now
        self._note_missing(now)
        _keep(self._ended, open_.response_id, None)

    def receive(self, response_id: str, now: float) -> bool | asyncio.Future[bool]:
        """An event says that a response has ended; whether it is taken note of, or the future of that."""
        if self._unannounced.pop(response_id, None) is not None:
            self.announcements.ended(announced=True)
        open_ = self._open.get(response_id)
        if open_ is None:
            return response_id in self._ended or self._note_unknown(response_id, now)
        if now - self._announced_at.get(response_id, 0.0) >= _AGAIN_AFTER_S:
            self._announced_at[response_id] = now
            self._queue.poll_now(open_, now)
            self._poll_signal.set()
        return True

    def expect_none(self) -> None:
        """No event will come to this process: poll as without, and let no request wait for one."""
        self._wait_s = 0.0
        self.announcements.ended(announced=False)

    def wait_s(self, open_: OpenResponse) -> float:
        """How long a request in doubt waits for its event: as set, or a minute longer than nearly all responses."""
        if self._wait_s is not None:
            return self._wait_s
        return open_.stage.schedules.of(open_.model).slow_s(_SLOWEST) + _DELIVERY_S

    def await_event(self, awaits: AwaitsEvent) -> None:
        """The reply to a create was lost: an event may name its response."""
        self.awaiting[awaits.open.attempt_id] = awaits
        self.has_doubts = True
        self.signal.set()

    @property
    def is_busy(self) -> bool:
        """Whether requests wait for events, or ids came that no request has."""
        return bool(self.awaiting) or bool(self._unknown)

    def unknown(self, *, until: float) -> list[str]:
        """The ids that came until then and that no request of this process has, the oldest first."""
        return [response_id for response_id, unknown in self._unknown.items() if unknown.at <= until]

    def _note_missing(self, now: float) -> None:
        while self._unannounced and next(iter(self._unannounced.values())) < now - _LATE_S:
            self._unannounced.popitem(last=False)
            self.announcements.ended(announced=False)

    def forget(self, response_id: str, *, taken: bool = True) -> None:
        """An unknown id is of no more interest; one that is not ``taken`` must be sent again."""
        if (unknown := self._unknown.pop(response_id, None)) is not None:
            unknown.answer(taken=taken)
            if taken:
                _keep(self._ended, response_id, None)

    def _note_unknown(self, response_id: str, now: float) -> asyncio.Future[bool]:
        unknown = self._unknown.get(response_id)
        if unknown is None:
            unknown = _Unknown(now)
            _keep(self._unknown, response_id, unknown)
            self.signal.set()
        return unknown.taken


@dataclass(slots=True)
class _Unknown:
    """An event that came at a time for a response that no request has; ``taken`` is the answer to its sender."""

    at: float
    taken: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, *, taken: bool) -> None:
        if not self.taken.done():
            self.taken.set_result(taken)


def _keep(kept: OrderedDict[str, _Value], response_id: str, value: _Value) -> None:
    kept[response_id] = value
    if len(kept) > _MOST:
        kept.popitem(last=False)
