"""An HTTP server that can close and reopen its port, and close the connection of a single client."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.server import ServerState

from orchestrator.core.errors import ConfigError

__all__ = ["SocketListener"]

# Clients keep idle connections for 5 to 90 s; one that the server closes first seems to them a lost reply.
_KEEP_ALIVE_S = 120
_BACKLOG = 2_048
_CLOSE_WAIT_S = 2


class SocketListener:
    """Serves an ASGI app in the running event loop; port 0 takes a free one, which it keeps when reopened.

    It uses uvicorn's protocol but not its server, which handles the process's signals and cannot be reopened.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connections = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """The base URL for clients of the API, once the server is open."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/v1"

    async def open(self, app: ASGIApp) -> None:
        """Starts to listen; raises ``ConfigError`` if the address is not available."""
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
        """Closes the connection of a call, after what was already written to it."""
        connections: set[Any] = self._connections.connections
        for connection in connections:
            if connection.client == scope["client"]:
                connection.transport.close()

    async def close(self) -> None:
        """Stops listening, breaks every connection, and waits until the running calls have ended."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._connections.connections):
            connection.transport.abort()
        if self._connections.tasks:
            _, unfinished = await asyncio.wait(self._connections.tasks, timeout=_CLOSE_WAIT_S)
            for task in unfinished:
                task.cancel()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's delay only if the protocol is given; the delay adds 40 ms to each reply.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Allows a closed listener to reopen its port at once.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
