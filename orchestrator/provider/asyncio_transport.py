"""The default transport: HTTP/1.1 directly on asyncio, at a third of the CPU time of HTTP libraries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import urlsplit

import anyio

from orchestrator.provider.connector import Connector
from orchestrator.provider.http1 import Connection, NoReply
from orchestrator.provider.transport import KEEPALIVE_S, Endpoint, Reply, Slots

__all__ = ["AsyncioTransport"]

# Methods that may be sent twice.
_REPEATABLE = frozenset({"GET", "DELETE"})
# Methods whose missing body is sent as an empty one.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_TARGET = re.compile(r"/[!-~]*")


class AsyncioTransport:
    """Keeps connections open and reuses the one used last.

    A GET or DELETE is sent again if a kept connection turns out to be closed, a POST never.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connector = Connector(endpoint)
        origin = urlsplit(endpoint.base_url)
        self._origin_length = len(f"{origin.scheme}://{origin.netloc}")
        self._target_prefix = self._connector.target_prefix
        self._slots = Slots(endpoint.max_connections, wait_s=endpoint.connect_timeout_s)
        ours = {"Host": self._connector.authority, **self._connector.headers, **endpoint.request_headers()}
        self._head = _lines(ours)
        self._connections: set[Connection] = set()
        # In order of last use, the newest last.
        self._idle: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> Reply:
        if self._closed:
            raise RuntimeError("the transport is closed")
        request = self._request(method, path, body, headers)
        silence_s = self._endpoint.read_timeout_s if read_timeout_s is None else read_timeout_s
        if not self._slots.take_free():
            await self._slots.take()
        try:
            return await self._exchange(request, silence_s, repeatable=method in _REPEATABLE)
        finally:
            self._slots.give_back()

    async def aclose(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        with anyio.CancelScope(shield=True):
            for connection in tuple(self._connections):
                connection.abort()
                await connection.closed

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first call; in Python 3.11 looking it up takes a system call."""
        return asyncio.get_running_loop()

    # ── one call ──────────────────────────────────────────────────────────────────────────────────────────

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None) -> bytes:
        target = self._endpoint.url(path)[self._origin_length :]
        if not _TARGET.fullmatch(target):
            raise ValueError("the path of a call begins with a slash and is quoted")
        head = f"{method} {self._target_prefix}{target} HTTP/1.1\r\n{self._head}{_lines(headers) if headers else ''}"
        if body is None and method not in _WITH_BODY:
            return f"{head}\r\n".encode("latin-1")
        body = body or b""
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body

    async def _exchange(self, request: bytes, silence_s: float, *, repeatable: bool) -> Reply:
        deadline = self._loop.time() + self._endpoint.connect_timeout_s + silence_s
        connection = self._take_idle()
        may_resend = connection is not None and repeatable
        while True:
            if connection is None:
                connection = await self._open()
            try:
                reply = await connection.exchange(request, silence_s=silence_s, deadline=deadline)
            except NoReply:
                if not may_resend:
                    raise
                connection, may_resend = None, False
            except asyncio.CancelledError:
                connection.abort()
                raise
            else:
                self._keep(connection)
                return reply

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────

    async def _open(self) -> Connection:
        connection = await self._connector.connect()
        if self._closed:
            connection.abort()
            raise RuntimeError("the transport is closed")
        self._connections.add(connection)
        connection.closed.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    def _take_idle(self) -> Connection | None:
        """Returns a kept connection that is open and has no unread data right now."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and not connection.has_unread_data():
                return connection
            connection.abort()
        return None

    def _keep(self, connection: Connection) -> None:
        if self._closed or not connection.is_usable:
            connection.abort()
            return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEPALIVE_S, self._close_idle)

    def _close_idle(self) -> None:
        """Close connections that were idle for too long, and schedule the next check."""
        idle_limit = self._loop.time() - KEEPALIVE_S
        kept = [
            connection for connection in self._idle if connection.is_usable and connection.idle_since > idle_limit
        ]
        for connection in set(self._idle).difference(kept):
            connection.abort()
        self._idle = kept
        self._sweep = self._loop.call_at(kept[0].idle_since + KEEPALIVE_S, self._close_idle) if kept else None


def _lines(headers: Mapping[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header of a call holds a line break")
    return lines
