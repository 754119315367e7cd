"""Listens for events of the provider while a run is carried out, and passes what they announce on as hints.

Anyone can send to a public URL. What is not signed is refused, slowly: a sender waits for its refusal, so that a
flood costs a run next to nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import anyio

from orchestrator.core.clock import Clock
from orchestrator.core.errors import ConfigError, ProviderUnreachable
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.provider.client import CallFailed, ResponsesClient
from orchestrator.provider.webhook_endpoints import send_test_event, webhook_endpoint
from orchestrator.provider.webhook_settings import WebhookSettings
from orchestrator.provider.webhooks import (
    RESPONSE_ENDINGS,
    Delivery,
    Flaw,
    WebhookEvent,
    WebhookVerifier,
    read_event,
)
from orchestrator.sandbox.server.socket_listener import SocketListener

__all__ = ["WebhookListener", "listening"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]

# An event is a few hundred bytes.
MOST_BYTES = 64 * 1024
_MOST_CONNECTIONS = 128
# A sender waits this long for the answer to an event that no request is known to have.
_DECIDE_S = 20.0
_READ_S = 10.0
_REFUSALS_PER_S = 40.0
_LONGEST_REFUSAL_S = 5.0
_WARN_EVERY_S = 60.0
_TEST_S = 15.0
_UNREADABLE = "it is not an event"
_FLAWS = {
    Flaw.UNSIGNED: "it is not signed",
    Flaw.FORGED: "no signature fits the secret",
    Flaw.OUT_OF_TIME: "its time and the clock of this machine differ by more than five minutes",
}
_EMPTY: _Message = {"type": "http.response.body", "body": b""}


class WebhookListener:
    """The ASGI app: it answers an event at once, and hands it on.

    An event that names a response which no request has is answered only when it is known whose it is, and on disk:
    were the process killed before, the provider would not send it again.
    """

    def __init__(self, hints: WebhookHints, clock: Clock, warn: Callable[[str, str], None]) -> None:
        # None until an endpoint is made.
        self.verifier: WebhookVerifier | None = None
        # The first event that the provider has signed.
        self.received = asyncio.Event()
        self._hints = hints
        self._clock = clock
        self._warn = warn
        self._next_refusal = 0.0
        self._warned_at = float("-inf")

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one delivery: 200 for an event, 503 for one to send again, 400 for anything else."""
        if scope["type"] != "http":
            return
        delivery = await _delivery(scope, receive)
        flaw = self._flaw(delivery) if delivery is not None else _UNREADABLE
        if delivery is None or flaw is not None:
            self._report(flaw or _UNREADABLE)
            await self._wait_to_refuse()
            await _answer(send, 400)
            return
        self.received.set()
        await _answer(send, 200 if await self._is_taken(read_event(delivery)) else 503)

    async def _is_taken(self, event: WebhookEvent | None) -> bool:
        if event is None or event.type not in RESPONSE_ENDINGS:
            return True
        taken = self._hints.receive(event.subject, self._clock.now())
        if isinstance(taken, bool):
            return taken
        with anyio.move_on_after(_DECIDE_S):
            return await asyncio.shield(taken)
        return False

    def no_event_reached(self) -> None:
        """Say that the public URL does not lead here."""
        message = "no event of the provider reached webhooks.listen: webhooks.public_url may not lead to it"
        self._warn("webhook_unreachable", message)

    def _flaw(self, delivery: Delivery) -> str | None:
        if self.verifier is None:
            return _FLAWS[Flaw.FORGED]
        # Wall-clock time: that of the run does not follow the clock of the machine.
        flaw = self.verifier.flaw(delivery, time.time())
        return None if flaw is None else _FLAWS[flaw]

    async def _wait_to_refuse(self) -> None:
        now = time.monotonic()
        self._next_refusal = max(now, self._next_refusal + 1.0 / _REFUSALS_PER_S)
        await asyncio.sleep(min(self._next_refusal - now, _LONGEST_REFUSAL_S))

    def _report(self, flaw: str) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            self._warn("webhook_refused", f"a delivery to webhooks.listen was refused: {flaw}")


async def _delivery(scope: _Message, receive: _Receive) -> Delivery | None:
    body = await _body(receive) if scope["method"] == "POST" else None
    if body is None:
        return None
    headers = dict(scope["headers"])
    message_id, timestamp = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
    return Delivery(message_id, timestamp, headers.get(b"webhook-signature", b""), body)


async def _body(receive: _Receive) -> bytes | None:
    """The whole body; None if it is too large or does not arrive."""
    body = bytearray()
    with anyio.move_on_after(_READ_S):
        while len(body) <= MOST_BYTES:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect":
                return None
            if not message.get("more_body"):
                return bytes(body) if len(body) <= MOST_BYTES else None
    return None


async def _answer(send: _Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send(_EMPTY)


@asynccontextmanager
async def listening(
    settings: WebhookSettings,
    hints: WebhookHints,
    client: ResponsesClient,
    *,
    run_uid: str,
    clock: Clock,
    warn: Callable[[str, str], None],
) -> AsyncIterator[WebhookListener]:
    """Listen until the end of the block, with an endpoint at the provider if a public URL is set.

    Raises ``ConfigError`` if the address or the secret cannot be used, and ``ProviderUnreachable`` if no endpoint can
    be made.
    """
    app = WebhookListener(hints, clock, warn)
    if settings.public_url is None:
        app.verifier = settings.verifier(os.environ)
    async with AsyncExitStack() as stack:
        server = SocketListener(settings.host, settings.port, most_connections=_MOST_CONNECTIONS)
        try:
            await server.open(app)
        except ConfigError as error:
            raise ConfigError(error.message, hint="choose another address for webhooks.listen") from None
        stack.push_async_callback(server.close)
        if settings.public_url is not None:
            tests = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tests.cancel_scope.cancel)
            endpoint = webhook_endpoint(client, name=f"orchestrator {run_uid}", url=settings.public_url)
            try:
                endpoint_id, secret = await stack.enter_async_context(endpoint)
            except CallFailed as failed:
                raise ProviderUnreachable(
                    f"no webhook endpoint could be made: {failed}",
                    hint="make one at the provider and name its secret in webhooks.secret_env, or remove the section",
                ) from None
            app.verifier = WebhookVerifier([secret])
            tests.start_soon(_test, app, client, endpoint_id)
        yield app


async def _test(app: WebhookListener, client: ResponsesClient, endpoint_id: str) -> None:
    """Find out whether events reach this process; without them the run polls as it does without webhooks."""
    problem = await send_test_event(client, endpoint_id)
    with anyio.move_on_after(_TEST_S):
        if problem is None:
            await app.received.wait()
    if not app.received.is_set():
        app.no_event_reached()
