"""Listens for the provider's webhooks, cheaply: what is forged costs a signature, and no call to the provider.

Anyone may reach the address, so everything that a caller can make large is bounded: connections, heads, bodies, the
time of a silent connection, the deliveries that wait for their answer, and the refusals of a second: beyond them
nothing is read for a moment. What was not taken in is answered 503, and the provider delivers it again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

import httptools

from orchestrator.provider.webhooks import Delivery, Flaw, WebhookEvent, WebhookVerifier, read_event

__all__ = ["HandleEvent", "WebhookListener"]

# Whether an event was taken in; a future, if that is not known yet. False has the provider deliver it again.
HandleEvent: TypeAlias = Callable[[WebhookEvent], "bool | asyncio.Future[bool]"]

_MOST_BODY_BYTES = 65_536
_MOST_HEAD_BYTES = 16_384
_MOST_CONNECTIONS = 128
_MOST_WAITING = 1_000
_SILENT_S = 15.0
# A sender waits so long for the answer to an event of which it is not known whose it is.
_DECIDE_S = 20.0
_BACKLOG = 128
_ACCEPTED_AT_ONCE = 4
# A refusal costs up to 0.25 ms, with its connection: so many of them take less than 3 % of a core.
_MOST_REFUSALS = 10
_REFUSALS_WITHIN_S = 0.1
# After this the system may have file descriptors again.
_NO_SOCKET_S = 1.0

_OK, _BAD, _NOT_POST, _TOO_LARGE, _BUSY = 200, 400, 405, 413, 503
_REASONS = {_OK: b"OK", _BAD: b"Bad Request", _NOT_POST: b"Method Not Allowed", _TOO_LARGE: b"Content Too Large",
            _BUSY: b"Service Unavailable"}  # fmt: skip
_REFUSALS = (_BAD, _NOT_POST, _TOO_LARGE)
_REPLIES = {
    (status, keeps): b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: %b\r\n\r\n"
    % (status, reason, b"keep-alive" if keeps else b"close")
    for status, reason in _REASONS.items()
    for keeps in (True, False)
}


class WebhookListener:
    """A small HTTP server for deliveries by POST, to any path.

    ``now`` is the time of this machine's own clock, by which timestamps are judged. ``refused`` is called with what
    is wrong with a delivery, and by how many seconds its timestamp differs.
    """

    def __init__(
        self,
        handle: HandleEvent,
        *,
        now: Callable[[], float],
        refused: Callable[[Flaw, float], None],
    ) -> None:
        # None until an endpoint is made: nothing is trusted.
        self.verifier: WebhookVerifier | None = None
        self._handle = handle
        self._now = now
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._connections: set[_Connection] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiting = 0
        self._refusals = 0
        self._refusals_since = 0.0
        self._paused = False

    def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address, with the port that was chosen if ``port`` is 0. Raises ``OSError``."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)
        self._close_silent()
        bound: tuple[str, int] = self._socket.getsockname()[:2]
        return bound

    def close(self) -> None:
        """Listen no more; deliveries that wait for their answer get none, and come again."""
        for timer in self._timers.values():
            timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()

    def add(self, connection: _Connection) -> None:
        """A connection is open."""
        self._connections.add(connection)
        if self._paused:
            connection.pause()

    def forget(self, connection: _Connection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)

    def receive(self, delivery: Delivery) -> int | asyncio.Future[bool]:
        """The status that answers a delivery, or the future of whether it was taken in."""
        now = self._now()
        flaw = Flaw.FORGED if self.verifier is None else self.verifier.flaw(delivery, now)
        if flaw is not None:
            self._refused(flaw, now - int(delivery.timestamp) if flaw is Flaw.OUT_OF_TIME else 0.0)
            return _BAD
        event = read_event(delivery)
        if event is None:
            return _OK
        if self._waiting >= _MOST_WAITING:
            return _BUSY
        taken = self._handle(event)
        if isinstance(taken, bool):
            return _OK if taken else _BUSY
        self._waiting += 1
        # The sender waits no longer, but what it asked may still be decided.
        answer = self._loop.create_future()
        taken.add_done_callback(lambda _: _settle(answer, taken))
        self._loop.call_later(_DECIDE_S, _settle, answer, None)
        answer.add_done_callback(self._answered)
        return answer

    def _answered(self, _: asyncio.Future[bool]) -> None:
        self._waiting -= 1

    def count_refusal(self) -> None:
        """Read nothing for a moment if too much of what comes is refused."""
        now = self._loop.time()
        if now >= self._refusals_since + _REFUSALS_WITHIN_S:
            self._refusals, self._refusals_since = 0, now
        self._refusals += 1
        if self._refusals >= _MOST_REFUSALS:
            self._pause(self._refusals_since + _REFUSALS_WITHIN_S)

    def _pause(self, until: float) -> None:
        if self._paused or self._socket is None:
            return
        self._paused = True
        self._loop.remove_reader(self._socket)
        for connection in self._connections:
            connection.pause()
        self._timers["resume"] = self._loop.call_at(until, self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)
        for connection in list(self._connections):
            connection.resume()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._socket is None:
                return
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError:
                self._pause(self._loop.time() + _NO_SOCKET_S)
                return
            if len(self._connections) + len(self._opening) >= _MOST_CONNECTIONS:
                accepted.close()
                self.count_refusal()
                continue
            accepted.setblocking(False)
            opening = self._loop.connect_accepted_socket(lambda: _Connection(self), accepted)
            task = self._loop.create_task(opening)
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            # A connection that broke as it was opened costs the sender one more try.
            task.exception()

    def _close_silent(self) -> None:
        before = self._loop.time() - _SILENT_S
        for connection in list(self._connections):
            connection.close_if_silent_since(before)
        self._timers["silent"] = self._loop.call_later(_SILENT_S, self._close_silent)


def _settle(answer: asyncio.Future[bool], taken: asyncio.Future[bool] | None) -> None:
    if not answer.done():
        answer.set_result(taken is not None and not taken.cancelled() and taken.result())


class _Connection(asyncio.Protocol):
    """One connection: a delivery at a time. Its parser calls the methods that begin with ``on``."""

    def __init__(self, listener: WebhookListener) -> None:
        self._listener = listener
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._received_at = 0.0
        self._waits: asyncio.Future[bool] | None = None
        self._head: dict[bytes, bytes] = {}
        self._body = b""
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received_at = asyncio.get_running_loop().time()
        self._listener.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 – asyncio calls it so
        self._listener.forget(self)

    def data_received(self, data: bytes) -> None:
        self._received_at = asyncio.get_running_loop().time()
        self._bytes += len(data)
        if self._waits is not None or self._bytes > _MOST_HEAD_BYTES + _MOST_BODY_BYTES:
            # A sender that does not wait for its answer is not one that we know.
            self._reply(_BAD if self._waits is not None else _TOO_LARGE, keeps=False)
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reply(_BAD, keeps=False)

    def on_message_begin(self) -> None:
        self._head.clear()
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._bytes = 0
        keeps = self._parser.should_keep_alive()
        if self._transport.is_closing():
            return
        if self._parser.get_method() != b"POST":
            self._reply(_NOT_POST, keeps=keeps)
            return
        if len(self._body) > _MOST_BODY_BYTES:
            self._reply(_TOO_LARGE, keeps=False)
            return
        head = self._head
        answer = self._listener.receive(
            Delivery(
                head.get(b"webhook-id", b""),
                head.get(b"webhook-timestamp", b""),
                head.get(b"webhook-signature", b""),
                self._body,
            )
        )
        if isinstance(answer, int):
            self._reply(answer, keeps=keeps)
            return
        self._waits = answer
        answer.add_done_callback(lambda done: self._answer(done, keeps=keeps))

    def _answer(self, done: asyncio.Future[bool], *, keeps: bool) -> None:
        self._waits = None
        self._reply(_OK if done.result() else _BUSY, keeps=keeps)

    def _reply(self, status: int, *, keeps: bool) -> None:
        if self._transport.is_closing():
            return
        if status in _REFUSALS:
            self._listener.count_refusal()
        self._transport.write(_REPLIES[status, keeps])
        if not keeps:
            self._transport.close()

    def pause(self) -> None:
        """Read nothing for a while."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without an answer."""
        self._transport.abort()

    def close_if_silent_since(self, before: float) -> None:
        """Close a connection that has sent nothing since, unless it waits for our answer."""
        if self._received_at < before and self._waits is None:
            self._transport.abort()
