"""The default transport: aiohttp, the client that costs the least CPU time by far."""

from __future__ import annotations

import io
import select
import ssl
from collections.abc import Mapping
from weakref import WeakSet

import aiohttp
import anyio
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from yarl import URL

from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.provider.transport import (
    KEEPALIVE_S,
    Endpoint,
    Reply,
    Slots,
    TransportError,
    environment_proxy,
    system_words,
    tls_context,
    too_large,
)

__all__ = ["AiohttpTransport"]

_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)

# aiohttp warns about larger bytes, since one write of them stalls the loop; a file is sent in pieces.
_LARGE_BODY = 2**20

# The defaults (8 kB) turn a long cookie or policy header into a lost reply.
_MAX_HEADER_BYTES = 65_536


class AiohttpTransport:
    """Speaks HTTP/1.1 over pooled connections, opened in the loop of the first call.

    aiohttp sends a GET or DELETE once more where a kept-alive connection turns out to be closed, and a POST never.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._timeout = self._timeouts(endpoint.read_timeout_s)
        self._proxy = environment_proxy(endpoint.base_url) if endpoint.trust_env else None
        self._slots = Slots(endpoint.max_connections, wait_s=endpoint.connect_timeout_s)
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
        session = self._session or self._open()
        timeout = self._timeout if read_timeout_s is None else self._timeouts(read_timeout_s)
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        await self._slots.take()
        response: aiohttp.ClientResponse | None = None
        chunks: list[bytes] = []
        try:
            async with session.request(
                method,
                URL(self._endpoint.url(path), encoded=True),
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                await self._read(response, chunks)
                return self._reply(response, chunks)
        except _NETWORK_ERRORS as error:
            partial = self._reply(response, chunks) if response is not None else None
            status = partial.status if partial else None
            raise TransportError(ReplyLost(reason=_lost(error, timeout), status=status), partial) from None
        finally:
            self._slots.give_back()

    async def aclose(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the transport is closed")
        # The slots are the only limit: where they are taken, it is known that the provider is not to blame.
        connector = _Connector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=tls_context())
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._endpoint.request_headers(),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        return self._session

    def _timeouts(self, read_s: float) -> aiohttp.ClientTimeout:
        connect_s = self._endpoint.connect_timeout_s
        return aiohttp.ClientTimeout(total=connect_s + read_s, connect=connect_s, sock_read=read_s)

    async def _read(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> None:
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._endpoint.max_reply_bytes:
                raise too_large(self._endpoint, self._reply(response, chunks))

    def _reply(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> Reply:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, headers, self._endpoint.redact(b"".join(chunks)))


class _Connector(aiohttp.TCPConnector):
    """Tells "never sent" by where a call fails, not by how: nothing of a request is written in here."""

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl: ssl.SSLContext) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl)
        self._known: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        try:
            while True:
                connection = await super().connect(req, traces, timeout)
                if self._is_new(connection.protocol) or not _spoke_while_idle(connection.protocol):
                    return connection
                connection.close()
        except _NETWORK_ERRORS as error:
            raise TransportError(NeverSent(reason=_unconnected(error, timeout))) from None

    def _is_new(self, protocol: ResponseHandler | None) -> bool:
        if protocol is None or protocol in self._known:
            return False
        self._known.add(protocol)
        return True


def _spoke_while_idle(protocol: ResponseHandler | None) -> bool:
    """True where something came over a connection that nobody asked anything: its end, or a stray reply.

    A create call sent into its end is lost, and nobody can say that it was not received. A stray reply, such as
    the 408 that some servers send before they hang up, would be taken for the answer to the next call.
    """
    if protocol is None or protocol.should_close or protocol.transport is None:
        return True
    # What the loop has not seen yet waits in the socket.
    poll = select.poll()
    poll.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _unconnected(error: Exception, timeout: aiohttp.ClientTimeout) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host} is not valid: {system_words(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return f"no TLS connection to {error.host}:{error.port}: {system_words(error.os_error)}"
        case aiohttp.ClientConnectorError():
            return f"no connection to {error.host}:{error.port}: {system_words(error.os_error)}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refused the connection: {error.status}"
        case TimeoutError():
            return f"no connection within {timeout.connect:g} s"
    return f"no connection: {type(error).__name__}"


def _lost(error: Exception, timeout: aiohttp.ClientTimeout) -> str:
    match error:
        case aiohttp.SocketTimeoutError():
            return f"no answer within {timeout.sock_read:g} s"
        case TimeoutError():
            return f"the answer was not complete within {timeout.total:g} s"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer came"
        case aiohttp.ClientPayloadError():
            return "the answer broke off or cannot be decoded"
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return "the answer is not HTTP"
        case OSError():
            return f"the connection broke: {system_words(error)}"
    return f"the connection broke: {type(error).__name__}"
