"""Opens connections to the provider: DNS, TCP, the proxy's tunnel and TLS; sends no part of a request."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
import anyio
from aiohappyeyeballs import AddrInfoType

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import NeverSent
from orchestrator.provider.http1 import Connection
from orchestrator.provider.transport import Endpoint, TransportError, environment_proxy, system_message, tls_context

__all__ = ["Connector"]

# After this time the next address is tried in parallel (RFC 8305).
_NEXT_ADDRESS_S = 0.25
# A name is resolved once for many connections that open at the same time.
_NAME_KEPT_S = 10.0
_MAX_TUNNEL_REPLY = 65_536


@fast_dataclass(kw_only=False)
class _Host:
    """A host to connect to. ``name`` is as in certificates and requests."""

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
        """As in the ``Host`` header and in ``CONNECT``."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.scheme == "https" else 80) else f"{name}:{self.port}"


class Connector:
    """Opens connections for one endpoint, directly or through the proxy that the environment names."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._provider = _Host.of(endpoint.base_url)
        proxy = environment_proxy(endpoint.base_url) if endpoint.trust_env else None
        self._proxy = _Host.of(proxy) if proxy is not None else None
        self._tls: ssl.SSLContext | None = None
        self._addresses: Sequence[AddrInfoType] = ()
        self._addresses_of = 0.0
        self._resolving = asyncio.Lock()

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        return self._provider.authority

    @property
    def target_prefix(self) -> str:
        """What precedes the path in a request: a forwarding proxy needs the whole URL."""
        return f"http://{self._provider.authority}" if self._is_forwarded else ""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that a forwarding proxy needs with each request."""
        if self._proxy is None or not self._is_forwarded or self._proxy.authorization is None:
            return {}
        return {"Proxy-Authorization": self._proxy.authorization}

    @property
    def _is_forwarded(self) -> bool:
        return self._proxy is not None and self._provider.scheme == "http"

    async def connect(self) -> Connection:
        """Returns a new connection; raises ``TransportError`` (never sent) if none opens in time."""
        timeout_s = self._endpoint.connect_timeout_s
        try:
            with anyio.fail_after(timeout_s):
                return await self._connect()
        except TimeoutError:
            reason = f"no connection within {timeout_s:g} s"
        except OSError as error:
            reason = _unconnected(error, self._proxy or self._provider)
        raise TransportError(NeverSent(reason=reason))

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        first = self._proxy or self._provider
        sock = await aiohappyeyeballs.start_connection(
            await self._look_up(loop, first), happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop
        )
        connection = Connection(self._endpoint, loop)
        tunnelled = self._proxy is not None and not self._is_forwarded
        protocol = _Tunnel(loop) if tunnelled else connection
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock, **self._tls_to(first))
        if isinstance(protocol, _Tunnel):
            await self._open_tunnel(loop, transport, protocol, connection)
        return connection

    async def _look_up(self, loop: asyncio.AbstractEventLoop, host: _Host) -> Sequence[AddrInfoType]:
        async with self._resolving:
            if loop.time() - self._addresses_of > _NAME_KEPT_S or not self._addresses:
                self._addresses = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
                self._addresses_of = loop.time()
            return self._addresses

    async def _open_tunnel(
        self, loop: asyncio.AbstractEventLoop, transport: Any, tunnel: _Tunnel, connection: Connection
    ) -> None:
        """Ask the proxy for a tunnel, and start TLS with the provider through it."""
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

    def _tls_to(self, host: _Host, name: str = "ssl") -> dict[str, Any]:
        if host.scheme != "https":
            return {}
        if self._tls is None:
            self._tls = tls_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return {name: self._tls, "server_hostname": host.name}


class _Tunnel(asyncio.Protocol):
    """Waits for the proxy's reply to ``CONNECT``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if (not end and len(head) <= _MAX_TUNNEL_REPLY) or self.opened.done():
            return
        version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        if end and not rest and version.startswith("HTTP/1.") and status.startswith("2"):
            self.opened.set_result(None)
        else:
            reason = (
                status[:3] if version.startswith("HTTP/1.") and status[:3].isdigit() else "an answer that is not HTTP"
            )
            self.opened.set_exception(_Refused(reason))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or _Refused("the connection was closed"))


class _Refused(OSError):
    """The proxy refused a tunnel."""


def _unconnected(error: OSError, host: _Host) -> str:
    match error:
        case _Refused():
            return f"the proxy refused the connection: {error}"
        case socket.gaierror():
            return f"the name {host.name} cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {host.name} is not valid: {system_message(error)}"
        case ssl.SSLError():
            return f"no TLS connection to {host.name}:{host.port}: {system_message(error)}"
    return f"no connection to {host.name}:{host.port}: {system_message(error)}"
