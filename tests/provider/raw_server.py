"""A server of raw bytes on loopback that can misbehave in every way a connection can."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Connection", "RawServer", "Request", "reply_bytes", "serve_raw"]


@dataclass(frozen=True)
class Request:
    """One request as received; the names of headers are lower-case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """One accepted connection, controlled by the script of a test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> Request:
        """Read one whole request; raises ``IncompleteReadError`` if the client disconnected."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body)

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():  # uvloop raises RuntimeError
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> None:
        await self.send(reply_bytes(body, status=status, headers=headers))

    async def gone(self) -> None:
        """Wait until the client has closed its side."""
        await self.reader.read()

    def reset(self) -> None:
        """Close with a TCP reset instead of a normal end."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Connection], Awaitable[None]]


@dataclass
class RawServer:
    """``script`` runs once for each connection; it may be replaced between calls."""

    script: Script
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    open: int = 0
    requests: list[Request] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def all_closed(self) -> None:
        """Wait until no connection is left."""
        while self.open:
            self._idle.clear()
            await self._idle.wait()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self.script(_Recording(reader, writer, self))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client disconnected, as in many of these tests
        finally:
            writer.close()
            self.open -= 1
            self._idle.set()
            self._tasks.discard(task)

    async def stop(self) -> None:
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class _Recording(Connection):
    server: RawServer

    async def request(self) -> Request:
        request = await super().request()
        self.server.requests.append(request)
        return request


def reply_bytes(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Returns a whole reply; ``headers`` are lines that each end in CRLF."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1") + body


async def _hang_up(connection: Connection) -> None:
    connection.writer.close()


@asynccontextmanager
async def serve_raw(context: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A raw server on a free port, closed with all its connections at the end."""
    server = RawServer(_hang_up, scheme="https" if context else "http")
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=context, limit=2**25)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()
