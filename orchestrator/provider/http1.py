"""One client-side HTTP/1.1 connection: sends a request and reads a reply, repeatedly.

llhttp, through httptools, parses what the server sends, with its default strictness. This module adds what the parser
leaves out: bodies that end with the connection, compression, limits, timeouts, and what is known when an exchange
breaks off.
"""

from __future__ import annotations

import asyncio
import select
import zlib
from functools import lru_cache
from typing import Any

import httptools

from orchestrator.core.problems import ReplyLost
from orchestrator.provider.reply_memory import FREE_BYTES, Lease
from orchestrator.provider.transport import (
    TIMEOUT_SETTING,
    Endpoint,
    Reply,
    TransportError,
    system_message,
    too_large,
    was_stopped,
)

__all__ = ["Connection", "NoReply"]

# The whole head of a reply; a single long cookie or policy header can have 8 kB.
_MAX_HEAD_BYTES = 131_072

# zlib's codes for "gzip or zlib, detected", and for deflate without a frame, which some servers send.
_GZIP_OR_ZLIB, _BARE_DEFLATE = 47, -15
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})

# In this time the event loop reads every socket once.
_ONE_TURN_S = 0.001

# More digits than any length has.
_MOST_DIGITS = 16
# Pieces of a body that are kept as they arrive; more of them are put together.
_MOST_PIECES = 256

_BROKEN_OFF = "the answer broke off or cannot be decoded"


class NoReply(TransportError):
    """The connection was closed or broke before the first byte of an answer arrived."""


class Connection(asyncio.Protocol):
    """An open connection; its owner makes one exchange at a time, and closes it with ``abort``."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._transport: Any = None
        # Finds unread data in the socket that the event loop has not seen.
        self._socket_poll = select.poll()
        # Done when the connection is closed.
        self.closed: asyncio.Future[None] = loop.create_future()
        # Cleared when the connection cannot serve another exchange.
        self._keeps = True
        self._answer: asyncio.Future[Reply] | None = None
        self._silence_s = self._deadline = self._received_at = 0.0
        # When it began to wait for room in the memory that replies share.
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        # When the last byte had arrived as the socket was read once more after a timeout.
        self._read_again_at: float | None = None
        # The parser stores each header directly in the dictionary: every reply has a dozen of them.
        self._head: dict[bytes, bytes] = {}
        self.on_header = self._head.__setitem__
        self._headers: dict[str, str] = {}
        # One parser reads all replies: a new one for each would cost as much as the parsing.
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    # ── exchanges ────────────────────────────────────────────────────────────────────────────────────────────

    def exchange(self, request: bytes, *, silence_s: float, deadline: float) -> asyncio.Future[Reply]:
        """Send a request and return its future reply; after a ``TransportError`` the connection is unusable.

        ``deadline`` is a time of the event loop's clock, ``silence_s`` the longest time without a byte.
        """
        self._begin()
        self._received_at = self._loop.time()
        self._silence_s, self._deadline, self._read_again_at = silence_s, deadline, None
        self._watch(min(self._received_at + silence_s, deadline))
        answer = self._answer = self._loop.create_future()
        self._transport.write(request)
        return answer

    @property
    def idle_since(self) -> float:
        """When the last byte of its last answer arrived, by the event loop's clock."""
        return self._received_at

    @property
    def is_usable(self) -> bool:
        """Whether it can serve another exchange, as far as the event loop has seen."""
        return self._keeps and self._answer is None and not self._transport.is_closing()

    def has_unread_data(self) -> bool:
        """Whether unrequested data has arrived: the end of the connection, or a stray reply.

        A create call sent into a closing connection is lost, and it is unknown whether it was received. A stray
        reply, such as the 408 that some servers send before they close, would be taken for the answer to the next
        call. The event loop has not seen this data yet: it is in the socket.
        """
        return bool(self._socket_poll.poll(0))

    def abort(self) -> None:
        """Close at once, in any state."""
        self._keeps = False
        self._transport.abort()

    # ── asyncio.Protocol ──────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._socket_poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()
            return
        self._received_at = self._loop.time()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(_BROKEN_OFF if self._headed else "the answer is not HTTP")
            return
        if self._whole:
            return
        most = self._endpoint.max_reply_bytes
        # With the start of a body its id arrives. Chunks of one byte have five bytes of framing.
        if self._size > most or (self._declared > most and self._size) or self._received > 8 * most + _MAX_HEAD_BYTES:
            self._fail_with(too_large(self._endpoint, self._partial()))
        elif not self._headed and self._received > _MAX_HEAD_BYTES:
            self._fail(f"the answer's headers are larger than {_MAX_HEAD_BYTES} bytes")
        elif self._size > FREE_BYTES and self._lease is None and self._waits_since is None:
            self._wait_for_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeps = False
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None and not self._whole:
            if exc is None and self._headed and self._ends_with_connection:
                self._complete()
            elif not self._received:
                self._fail_with(NoReply(ReplyLost(reason=_closed(exc))))
            else:
                self._fail(_BROKEN_OFF if exc is None else _closed(exc))
        if not self.closed.done():
            self.closed.set_result(None)

    # ── parser callbacks ──────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._answer is None:
            # Bytes after a whole answer are an unrequested reply.
            self._keeps = False
        self._head.clear()

    def on_headers_complete(self) -> None:
        self._headers = {_header_name(name): value.decode("latin-1") for name, value in self._head.items()}
        self._status: int = self._parser.get_status_code()
        self._headed = self._status >= 200
        declared = self._headers.get("content-length", "0")
        self._declared = int(declared) if len(declared) < _MOST_DIGITS and declared.isdecimal() else 0

    def on_body(self, body: bytes) -> None:
        if len(self._body) < _MOST_PIECES:
            self._body.append(body)
        else:
            # A million pieces of a byte would take forty megabytes.
            self._rest += body
        self._size += len(body)

    def on_message_complete(self) -> None:
        # An informational reply (103, Early Hints) precedes the final one.
        if self._headed and self._answer is not None:
            self._keeps &= self._parser.should_keep_alive()
            self._complete()

    # ── one exchange ──────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        self._received = self._size = self._declared = 0
        self._headed = self._whole = False
        self._body: list[bytes] = []
        self._rest = bytearray()
        self._lease: Lease | None = None

    @property
    def _ends_with_connection(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def _complete(self) -> None:
        self._whole = True
        if self._waits_since is not None:
            return
        if self._lease is None and "content-encoding" in self._headers and self._expands_far():
            self._wait_for_room()
            return
        self._deliver()

    def _deliver(self) -> None:
        body, whole = self._read_body(self._endpoint.max_reply_bytes)
        reply = Reply(status=self._status, headers=self._headers, body=self._endpoint.redact(body), lease=self._lease)
        self._body, self._lease = [], None
        if len(body) > self._endpoint.max_reply_bytes:
            self._fail_with(too_large(self._endpoint, reply))
        elif not whole:
            self._fail(_BROKEN_OFF)
        else:
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():  # already done if the caller was cancelled
                answer.set_result(reply)

    def _wait_for_room(self) -> None:
        """Read no more, and deliver nothing, until the memory that replies share has room for this one."""
        most = self._endpoint.max_reply_bytes
        size = most if "content-encoding" in self._headers else min(self._declared or most, most)
        self._lease = self._endpoint.reply_memory.take(size)
        if self._lease is not None:
            if self._whole:
                self._deliver()
            return
        self._waits_since = self._loop.time()
        # A lease is given back wherever the last holder of a reply drops it: the loop continues later.
        self._endpoint.reply_memory.wait(size, lambda lease: self._loop.call_soon(self._has_room, lease))
        if not self._whole:
            self._transport.pause_reading()

    def _has_room(self, lease: Lease) -> None:
        """Continue with a lease; the time that it waited does not count as silence of the server."""
        since, self._waits_since = self._waits_since, None
        if self._answer is None or since is None:
            return
        self._lease = lease
        now = self._loop.time()
        self._deadline += now - since
        self._received_at = now
        if self._whole:
            self._deliver()
        else:
            self._transport.resume_reading()

    def _expands_far(self) -> bool:
        return len(self._read_body(FREE_BYTES)[0]) > FREE_BYTES

    def _read_body(self, most: int) -> tuple[bytes, bool]:
        """Returns the received body, decompressed as far as possible and allowed, and whether it is complete."""
        body = self._body[0] if len(self._body) == 1 and not self._rest else b"".join((*self._body, self._rest))
        encoding = self._headers.get("content-encoding")
        if encoding is None or not body:
            return body, True
        return _expand(body, encoding.lower(), most)

    def _partial(self) -> Reply:
        body = self._endpoint.redact(self._read_body(FREE_BYTES)[0][:FREE_BYTES])
        return Reply(status=self._status, headers=self._headers, body=body)

    def _lost(self, reason: str) -> TransportError:
        if not self._headed:
            return TransportError(ReplyLost(reason=reason))
        return TransportError(ReplyLost(reason=reason, status=self._status), self._partial())

    def _fail(self, reason: str) -> None:
        self._fail_with(self._lost(reason))

    def _fail_with(self, error: TransportError) -> None:
        answer, self._answer = self._answer, None
        self._body, self._lease = [], None
        self._rest = bytearray()
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, until: float) -> None:
        """Check the timeouts by then at the latest; one timer serves many exchanges."""
        if self._timer is not None:
            if self._timer_at <= until:
                return
            self._timer.cancel()
        self._timer_at = until
        self._timer = self._loop.call_at(until, self._check_timeouts)

    def _check_timeouts(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        now = self._loop.time()
        if self._waits_since is not None:
            self._watch(now + self._silence_s)
        elif now < (due := min(self._received_at + self._silence_s, self._deadline)):
            self._watch(due)
        elif self._may_read_again(stopped := was_stopped(self._timer_at, now)):
            self._read_again(now, stopped=stopped)
        elif now >= self._deadline:
            self._fail("the answer was not complete in time")
        else:
            self._fail(f"no answer within {self._silence_s:g} s ({TIMEOUT_SETTING})")

    def _may_read_again(self, stopped: bool) -> bool:
        """Whether to read the socket before the timeout counts: once, and again if it brought something since."""
        return self._read_again_at is None or (stopped and self._read_again_at < self._received_at)

    def _read_again(self, now: float, *, stopped: bool) -> None:
        """Let the loop read the socket before it returns here: a reply may lie there while this process was stopped.

        What was sent in that time is then read in full, so the rest of a long reply has its time again.
        """
        self._read_again_at = self._received_at
        if stopped:
            self._deadline = max(self._deadline, now + self._silence_s)
        self._watch(now + _ONE_TURN_S)


# Every reply has the same dozen.
@lru_cache(maxsize=256)
def _header_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _expand(body: bytes, encoding: str, most: int) -> tuple[bytes, bool]:
    """Returns the readable part of a compressed body, up to one byte over the cap, and whether it is complete."""
    if encoding in ("", "identity"):
        return body, True
    if encoding not in _COMPRESSED:
        return b"", False
    for framing in (_GZIP_OR_ZLIB, _BARE_DEFLATE):
        inflater = zlib.decompressobj(framing)
        try:
            return inflater.decompress(body, most + 1), inflater.eof and not inflater.unused_data
        except zlib.error:
            continue
    return b"", False


def _closed(exc: Exception | None) -> str:
    if exc is None:
        return "the connection was closed before an answer came"
    return f"the connection broke: {system_message(exc)}"
