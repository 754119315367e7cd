"""One HTTP/1.1 connection on the client's side: a request out, a reply in, over and over.

llhttp, through httptools, reads what the server sends, and is as strict as it is by default. What stands here is
what it leaves to its user: bodies that end with the connection, compression, limits, time, and what is known when
an exchange breaks off.
"""

from __future__ import annotations

import asyncio
import select
import zlib
from functools import lru_cache
from typing import Any

import httptools

from orchestrator.core.problems import ReplyLost
from orchestrator.provider.transport import Endpoint, Reply, TransportError, system_words, too_large

__all__ = ["Connection", "NoReply"]

# All lines of a head together; a long cookie or policy header alone can have 8 kB.
_MAX_HEAD_BYTES = 131_072

# zlib's word for "gzip or zlib, whichever it is", and for deflate without either's frame, which some servers send.
_GZIP_OR_ZLIB, _BARE_DEFLATE = 47, -15
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})

_BROKEN_OFF = "the answer broke off or cannot be decoded"


class NoReply(TransportError):
    """The connection was closed, or broke, before one byte of an answer came over it."""


class Connection(asyncio.Protocol):
    """An open connection; whoever owns it asks one question at a time, and gives it up by ``abort``."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._transport: Any = None
        # Asked what waits in the socket, past the event loop.
        self._socket_poll = select.poll()
        # Done when nothing of the connection is left.
        self.closed: asyncio.Future[None] = loop.create_future()
        # Cleared by whatever makes the connection useless for another question.
        self._keeps = True
        self._answer: asyncio.Future[Reply] | None = None
        self._silence_s = self._deadline = self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        # The parser hands each line of a head straight to the dictionary: a dozen of them come with every reply.
        self._head: dict[bytes, bytes] = {}
        self.on_header = self._head.__setitem__
        self._headers: dict[str, str] = {}
        # It reads one reply after the other: a new one for each would cost as much as reading.
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, request: bytes, *, silence_s: float, deadline: float) -> asyncio.Future[Reply]:
        """Send a request, and be given its reply; fails with ``TransportError`` and then cannot be asked again.

        ``deadline`` is a moment of the event loop's clock, ``silence_s`` the longest time without a byte.
        """
        self._begin()
        self._heard_at = self._loop.time()
        self._silence_s, self._deadline = silence_s, deadline
        self._watch(min(self._heard_at + silence_s, deadline))
        answer = self._answer = self._loop.create_future()
        self._transport.write(request)
        return answer

    @property
    def idle_since(self) -> float:
        """When the last byte of its last answer came, by the event loop's clock."""
        return self._heard_at

    @property
    def is_usable(self) -> bool:
        """Whether it can be asked (again), as far as the event loop has seen."""
        return self._keeps and self._answer is None and not self._transport.is_closing()

    def has_unread_data(self) -> bool:
        """True where something came that nobody asked for: the connection's end, or a stray reply.

        A create call sent into its end is lost, and nobody can say that it was not received. A stray reply, such as
        the 408 that some servers send before they hang up, would be taken for the answer to the next call. The
        event loop has not seen it yet: it waits in the socket.
        """
        return bool(self._socket_poll.poll(0))

    def abort(self) -> None:
        """Close at once, whatever goes on."""
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
        self._heard_at = self._loop.time()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(_BROKEN_OFF if self._headed else "the answer is not HTTP")
            return
        if self._size > self._endpoint.max_reply_bytes:
            self._fail_with(too_large(self._endpoint, self._partial()))
        elif not self._headed and self._received > _MAX_HEAD_BYTES:
            self._fail(f"the answer's headers are larger than {_MAX_HEAD_BYTES} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeps = False
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None:
            if exc is None and self._headed and self._ends_with_connection:
                self._complete()
            elif not self._received:
                self._fail_with(NoReply(ReplyLost(reason=_closed(exc))))
            else:
                self._fail(_BROKEN_OFF if exc is None else _closed(exc))
        if not self.closed.done():
            self.closed.set_result(None)

    # ── what the parser reads ─────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._answer is None:
            # Bytes that follow a whole answer are a reply that nobody asked for.
            self._keeps = False
        self._head.clear()

    def on_headers_complete(self) -> None:
        self._headers = {_header_name(name): value.decode("latin-1") for name, value in self._head.items()}
        self._status: int = self._parser.get_status_code()
        self._headed = self._status >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        # An informational reply (103, Early Hints) comes before the one that counts.
        if self._headed and self._answer is not None:
            self._keeps &= self._parser.should_keep_alive()
            self._complete()

    # ── one exchange ──────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        self._received = self._size = 0
        self._headed = False
        self._body: list[bytes] = []

    @property
    def _ends_with_connection(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def _complete(self) -> None:
        body, whole = self._read_body()
        reply = Reply(status=self._status, headers=self._headers, body=self._endpoint.redact(body))
        if len(body) > self._endpoint.max_reply_bytes:
            self._fail_with(too_large(self._endpoint, reply))
        elif not whole:
            self._fail(_BROKEN_OFF)
        else:
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():  # done already where whoever asked was cancelled
                answer.set_result(reply)

    def _read_body(self) -> tuple[bytes, bool]:
        """What has arrived of the body, decompressed as far as it can be, and whether it is sound to its end."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        encoding = self._headers.get("content-encoding")
        if encoding is None or not body:
            return body, True
        return _expand(body, encoding.lower(), self._endpoint.max_reply_bytes)

    def _partial(self) -> Reply:
        body = self._endpoint.redact(self._read_body()[0])
        return Reply(status=self._status, headers=self._headers, body=body)

    def _lost(self, reason: str) -> TransportError:
        if not self._headed:
            return TransportError(ReplyLost(reason=reason))
        return TransportError(ReplyLost(reason=reason, status=self._status), self._partial())

    def _fail(self, reason: str) -> None:
        self._fail_with(self._lost(reason))

    def _fail_with(self, error: TransportError) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, until: float) -> None:
        """See to it that the clock is looked at by then; a timer that is set already does for many exchanges."""
        if self._timer is not None:
            if self._timer.when() <= until:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        now = self._loop.time()
        if now >= self._deadline:
            self._fail("the answer was not complete in time")
        elif now >= self._heard_at + self._silence_s:
            self._fail(f"no answer within {self._silence_s:g} s")
        else:
            self._watch(min(self._heard_at + self._silence_s, self._deadline))


# The same dozen comes with every reply.
@lru_cache(maxsize=256)
def _header_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _expand(body: bytes, encoding: str, most: int) -> tuple[bytes, bool]:
    """As much of a compressed body as can be read, up to one byte over the cap; and whether that was all."""
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
    return f"the connection broke: {system_words(exc)}"
