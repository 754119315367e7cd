"""The pluggable transport: any httpx transport, for HTTP/2, a special proxy, or an ASGI app in tests."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

import anyio
import httpx

from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.provider.call_timeout import CallTimeout, call_timeout
from orchestrator.provider.reply_memory import FREE_BYTES, Lease
from orchestrator.provider.transport import (
    KEEPALIVE_S,
    TIMEOUT_SETTING,
    Endpoint,
    Reply,
    Slots,
    TransportError,
    environment_proxy,
    system_message,
    tls_context,
    too_large,
)

__all__ = ["HttpxReply", "HttpxTransport"]

_NETWORK_ERRORS = (httpx.RequestError, OSError)

# What httpx's own transports raise before they write the first byte of a request.
_UNCONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_HTTPX_OWN = (httpx.AsyncHTTPTransport, httpx.ASGITransport, httpx.MockTransport)

# Errors of the operating system that only occur if no connection was made.
_NO_CONNECTION = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)


class HttpxTransport:
    """Uses an httpx transport: httpx's own pool unless another one is given, which is closed with this one.

    It costs several times the CPU time of ``AsyncioTransport``, and more with more calls in progress. For a foreign
    transport, "never sent" holds only if the operating system reported it: some of them report a connection that was
    dropped *after* the request as one that was never made.
    """

    def __init__(self, endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._endpoint = endpoint
        self._headers = endpoint.request_headers()
        self._transport = transport if transport is not None else _pool(endpoint)
        self._trusted = isinstance(self._transport, _HTTPX_OWN)
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
        if self._closed:
            raise RuntimeError("the transport is closed")
        read_s = self._endpoint.read_timeout_s if read_timeout_s is None else read_timeout_s
        request = self._request(method, path, body, headers)
        await self._slots.take()
        response: httpx.Response | None = None
        chunks: list[bytes] = []
        try:
            with self._timeout(request, silence_s=read_s) as timeout:
                response = await self._transport.handle_async_request(request)
                timeout.received()
                try:
                    lease = await self._read(response, chunks, timeout)
                finally:
                    await response.aclose()
            return self._reply(response, chunks, lease)
        except _NETWORK_ERRORS as error:
            if response is None and self._never_sent(error):
                raise TransportError(NeverSent(reason=_unconnected(error, request.url))) from None
            partial = self._reply(response, chunks) if response is not None else None
            status = partial.status if partial else None
            raise TransportError(ReplyLost(reason=_lost(error, read_s), status=status), partial) from None
        finally:
            self._slots.give_back()

    async def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float,
    ) -> HttpxReply:
        """Start an exchange whose reply is read as it arrives; see ``streaming.StreamTransport``."""
        if self._closed:
            raise RuntimeError("the transport is closed")
        request = self._request(method, path, body, headers)
        try:
            with self._timeout(request, silence_s=self._endpoint.read_timeout_s):
                response = await self._transport.handle_async_request(request)
        except _NETWORK_ERRORS as error:
            if self._never_sent(error):
                raise TransportError(NeverSent(reason=_unconnected(error, request.url))) from None
            raise TransportError(ReplyLost(reason=_lost(error, self._endpoint.read_timeout_s))) from None
        return HttpxReply(response, self._endpoint, silence_s)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()

    @contextmanager
    def _timeout(self, request: httpx.Request, *, silence_s: float) -> Iterator[CallTimeout]:
        whole_s = self._endpoint.connect_timeout_s + silence_s
        with call_timeout(silence_s=silence_s, whole_s=whole_s) as timeout:

            async def trace(step: str, _: object) -> None:
                if step.endswith("send_request_headers.started"):
                    timeout.received()

            request.extensions["trace"] = trace
            yield timeout

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        connect_s = self._endpoint.connect_timeout_s
        return httpx.Request(
            method,
            self._endpoint.url(path),
            headers={**self._headers, **(headers or {})},
            content=body,
            # Reading and writing have a timeout that a stop of this process does not spend.
            extensions={"timeout": {"connect": connect_s, "pool": connect_s, "read": None, "write": None}},
        )

    async def _read(self, response: httpx.Response, chunks: list[bytes], timeout: CallTimeout) -> Lease | None:
        """Read a body; a large one waits for room in the memory that replies share, which is no silence."""
        size, lease, most = 0, None, self._endpoint.max_reply_bytes
        async for chunk in response.aiter_bytes():
            timeout.received()
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise too_large(self._endpoint, self._reply(response, chunks[:1]))
            if size > FREE_BYTES and lease is None:
                lease = await self._room(timeout)
        return lease

    async def _room(self, timeout: CallTimeout) -> Lease:
        """Returns a lease for the largest reply; while it waits, the call's timeout stands still."""
        memory, most = self._endpoint.reply_memory, self._endpoint.max_reply_bytes
        if (lease := memory.take(most)) is not None:
            return lease
        there: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        memory.wait(most, lambda lease: None if there.done() else there.set_result(lease))
        paused_at = timeout.pause()
        lease = await there
        timeout.resume(paused_at)
        return lease

    def _reply(self, response: httpx.Response, chunks: list[bytes], lease: Lease | None = None) -> Reply:
        body = self._endpoint.redact(b"".join(chunks))
        return Reply(status=response.status_code, headers=dict(response.headers), body=body, lease=lease)

    def _never_sent(self, error: Exception) -> bool:
        if not isinstance(error, _UNCONNECTED):
            return False
        return self._trusted or any(isinstance(cause, _NO_CONNECTION) for cause in _causes(error))


class HttpxReply:
    """A reply whose body is still arriving; see ``streaming.OpenReply``."""

    def __init__(self, response: httpx.Response, endpoint: Endpoint, silence_s: float) -> None:
        self._response = response
        self._endpoint = endpoint
        self._silence_s = silence_s
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        pieces = self._endpoint.redaction.pieces()
        try:
            async for chunk in self._arriving():
                if ready := pieces.feed(chunk):
                    yield ready
            if rest := pieces.rest():
                yield rest
        except _NETWORK_ERRORS as error:
            problem = ReplyLost(reason=_lost(error, self._silence_s), status=self.status)
            raise TransportError(problem) from None

    async def _arriving(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._response.aiter_bytes())
        while True:
            with call_timeout(silence_s=self._silence_s, whole_s=self._silence_s) as timeout:
                timeout.received()
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._response.aclose()


def _pool(endpoint: Endpoint) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(
        verify=tls_context(),
        proxy=environment_proxy(endpoint.base_url) if endpoint.trust_env else None,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S),
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and its causes, including each of several attempts to connect."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def _unconnected(error: Exception, url: httpx.URL) -> str:
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return f"the name {url.host} cannot be resolved"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {url.host} is not valid: {system_message(cause)}"
            case ssl.SSLError():
                return f"no TLS connection to {url.host}: {system_message(cause)}"
            case httpx.ProxyError():
                return "the proxy refused the connection"
            case httpx.ConnectTimeout():
                return f"no connection to {url.host} in time"
            case OSError(errno=int()):
                return f"no connection to {url.host}:{url.port}: {system_message(cause)}"
    return f"no connection to {url.host}: {type(error).__name__}"


def _lost(error: Exception, read_s: float) -> str:
    match error:
        case httpx.ReadTimeout():
            return f"no answer within {read_s:g} s ({TIMEOUT_SETTING})"
        case TimeoutError() | httpx.TimeoutException():
            return "the answer was not complete in time"
        case httpx.RemoteProtocolError():
            return "the connection was closed before the answer was complete, or the answer is not HTTP"
        case httpx.DecodingError():
            return "the answer cannot be decoded"
        case OSError():
            return f"the connection broke: {system_message(error)}"
    return f"the connection broke: {type(error).__name__}"
