"""An HTTP server whose port can be closed and opened again, and that can hang up on a single client."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.server import ServerState

from orchestrator.core.errors import ConfigError

__all__ = ["SocketListener"]

# Clients keep idle connections for 5 to 90 s; one that the server closes first looks to them like a lost reply.
_KEEP_ALIVE_S = 120
_BACKLOG = 2_048
_LAST_WORDS_S = 2


class SocketListener:
    """Serves an ASGI app in the running event loop; port 0 takes a free one, and keeps it when opened again.

    It uses uvicorn's protocol and not its server, which owns the process's signals and closes for good.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connections = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Where a client of the API finds the server, once it is open."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    async def open(self, app: ASGIApp) -> None:
        """Listen; raises ``ConfigError`` where the address cannot be had."""
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        config.load()
        protocol: Any = config.http_protocol_class
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: protocol(config=config, server_state=self._connections, app_state={}),
                sock=_bind(self._host, self._port),
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{self._port}: {error.strerror}", hint="choose another --port"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]

    def hang_up(self, scope: Scope) -> None:
        """Close the connection that a call came over, after what was already written to it."""
        connections: set[Any] = self._connections.connections
        for connection in connections:
            if connection.client == scope["client"]:
                connection.transport.close()

    async def close(self) -> None:
        """Stop listening, break every connection, and wait until the calls under way have noticed."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._connections.connections):
            connection.transport.abort()
        if self._connections.tasks:
            _, unfinished = await asyncio.wait(self._connections.tasks, timeout=_LAST_WORDS_S)
            for task in unfinished:
                task.cancel()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named; with it each reply takes 40 ms more.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # The port of a closed listener can be had again at once.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
