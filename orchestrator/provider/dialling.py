"""Opens connections to the provider: name, TCP, the proxy's tunnel, TLS; nothing of a request is written in here."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
import anyio
from aiohappyeyeballs import AddrInfoType

from orchestrator.core.problems import NeverSent
from orchestrator.provider.http1 import Connection
from orchestrator.provider.transport import Endpoint, TransportError, environment_proxy, system_words, tls_context

__all__ = ["Dialler"]

# The next address is tried beside the one that has not answered by then (RFC 8305).
_NEXT_ADDRESS_S = 0.25
# A name is looked up once for the many connections that a busy moment opens.
_NAME_KEPT_S = 10.0
_MAX_TUNNEL_REPLY = 65_536


@dataclass(frozen=True, slots=True)
class _Place:
    """Somebody to connect to. ``name`` is the host as certificates and requests have it."""

    scheme: str
    name: str
    port: int
    authorization: str | None = None

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        authorization = None
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
        name = (parts.hostname or "").encode("idna").decode()
        return cls(parts.scheme, name, parts.port or (443 if parts.scheme == "https" else 80), authorization)

    @property
    def authority(self) -> str:
        """As the ``Host`` header and a tunnel want it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.scheme == "https" else 80) else f"{name}:{self.port}"


class Dialler:
    """Makes connections for one endpoint, directly or through the proxy that the environment names."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._provider = _Place.of(endpoint.base_url)
        proxy = environment_proxy(endpoint.base_url) if endpoint.trust_env else None
        self._proxy = _Place.of(proxy) if proxy is not None else None
        self._tls: ssl.SSLContext | None = None
        self._addresses: Sequence[AddrInfoType] = ()
        self._addresses_of = 0.0
        self._looking_up = asyncio.Lock()

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        return self._provider.authority

    @property
    def target_prefix(self) -> str:
        """What precedes the path in a request: a proxy that makes the requests itself is told the whole URL."""
        return f"http://{self._provider.authority}" if self._asks_proxy else ""

    @property
    def headers(self) -> Mapping[str, str]:
        """What a proxy that makes the requests itself is told with each of them."""
        if self._proxy is None or not self._asks_proxy or self._proxy.authorization is None:
            return {}
        return {"Proxy-Authorization": self._proxy.authorization}

    @property
    def _asks_proxy(self) -> bool:
        return self._proxy is not None and self._provider.scheme == "http"

    async def dial(self) -> Connection:
        """A new connection; raises ``TransportError`` (never sent) where there is none in time."""
        timeout_s = self._endpoint.connect_timeout_s
        try:
            with anyio.fail_after(timeout_s):
                return await self._dial()
        except TimeoutError:
            reason = f"no connection within {timeout_s:g} s"
        except OSError as error:
            reason = _unconnected(error, self._proxy or self._provider)
        raise TransportError(NeverSent(reason=reason))

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        first = self._proxy or self._provider
        sock = await aiohappyeyeballs.start_connection(
            await self._look_up(loop, first), happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop
        )
        connection = Connection(self._endpoint, loop)
        tunnelled = self._proxy is not None and not self._asks_proxy
        protocol = _Tunnel(loop) if tunnelled else connection
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock, **self._tls_to(first))
        if isinstance(protocol, _Tunnel):
            await self._pass_through(loop, transport, protocol, connection)
        return connection

    async def _look_up(self, loop: asyncio.AbstractEventLoop, place: _Place) -> Sequence[AddrInfoType]:
        async with self._looking_up:
            if loop.time() - self._addresses_of > _NAME_KEPT_S or not self._addresses:
                self._addresses = await loop.getaddrinfo(place.name, place.port, type=socket.SOCK_STREAM)
                self._addresses_of = loop.time()
            return self._addresses

    async def _pass_through(
        self, loop: asyncio.AbstractEventLoop, transport: Any, tunnel: _Tunnel, connection: Connection
    ) -> None:
        """Ask the proxy for a tunnel, and speak TLS with the provider through it."""
        provider, login = self._provider, self._proxy.authorization if self._proxy else None
        authority = f"{provider.authority.removesuffix(f':{provider.port}')}:{provider.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        lines += [f"Proxy-Authorization: {login}"] if login else []
        transport.write("\r\n".join([*lines, "", ""]).encode())
        try:
            await tunnel.opened
            inner = await loop.start_tls(transport, connection, **self._tls_to(provider, "sslcontext"))
        except BaseException:
            transport.abort()
            raise
        if inner is None:
            raise ConnectionResetError
        connection.connection_made(inner)

    def _tls_to(self, place: _Place, name: str = "ssl") -> dict[str, Any]:
        if place.scheme != "https":
            return {}
        if self._tls is None:
            self._tls = tls_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return {name: self._tls, "server_hostname": place.name}


class _Tunnel(asyncio.Protocol):
    """Waits for what a proxy says to ``CONNECT``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, rest = self._heard.partition(b"\r\n\r\n")
        if (not end and len(head) <= _MAX_TUNNEL_REPLY) or self.opened.done():
            return
        version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        if end and not rest and version.startswith("HTTP/1.") and status.startswith("2"):
            self.opened.set_result(None)
        else:
            said = (
                status[:3] if version.startswith("HTTP/1.") and status[:3].isdigit() else "an answer that is not HTTP"
            )
            self.opened.set_exception(_Refused(said))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or _Refused("the connection was closed"))


class _Refused(OSError):
    """The proxy opens no tunnel."""


def _unconnected(error: OSError, place: _Place) -> str:
    match error:
        case _Refused():
            return f"the proxy refused the connection: {error}"
        case socket.gaierror():
            return f"the name {place.name} cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {place.name} is not valid: {system_words(error)}"
        case ssl.SSLError():
            return f"no TLS connection to {place.name}:{place.port}: {system_words(error)}"
    return f"no connection to {place.name}:{place.port}: {system_words(error)}"
