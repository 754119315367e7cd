"""Listens for events of the provider while a run is carried out, and passes what they announce on as hints."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from orchestrator.core.clock import Clock
from orchestrator.core.errors import ConfigError
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.webhook_endpoints import send_test_event, webhook_endpoint
from orchestrator.provider.webhook_listener import WebhookListener
from orchestrator.provider.webhook_settings import WebhookSettings
from orchestrator.provider.webhooks import RESPONSE_ENDINGS, Flaw, WebhookEvent, WebhookVerifier

__all__ = ["EventReceiver", "listening"]

_WARN_EVERY_S = 60.0
_TEST_S = 15.0
_FLAWS = {
    Flaw.UNSIGNED: "it is not signed",
    Flaw.FORGED: "no signature fits the secret",
}


class EventReceiver:
    """Passes events on as hints, and warns of deliveries that are refused, at most once a minute.

    An event that names a response which no request has is answered only when it is known whose it is, and on disk:
    were the process killed before, the provider would not send it again.
    """

    def __init__(self, hints: WebhookHints, clock: Clock, warn: Callable[[str, str], None]) -> None:
        # The first event that the provider has signed.
        self.received = asyncio.Event()
        self._hints = hints
        self._clock = clock
        self._warn = warn
        self._warned_at = float("-inf")

    def receive(self, event: WebhookEvent) -> bool | asyncio.Future[bool]:
        """Whether an event is taken note of, or the future of that."""
        self.received.set()
        if event.type not in RESPONSE_ENDINGS:
            return True
        return self._hints.receive(event.subject, self._clock.now())

    def refused(self, flaw: Flaw, late_s: float) -> None:
        """A delivery was refused."""
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            self._warn("webhook_refused", f"a delivery to webhooks.listen was refused: {_reason(flaw, late_s)}")

    def no_event_reached(self) -> None:
        """Say that the public URL does not lead here."""
        message = "no event of the provider reached webhooks.listen: webhooks.public_url may not lead to it"
        self._warn("webhook_unreachable", message)


def _reason(flaw: Flaw, late_s: float) -> str:
    if flaw is Flaw.OUT_OF_TIME:
        direction = "ahead of" if late_s > 0 else "behind"
        return f"the clock of this machine is {abs(late_s):.0f} s {direction} the time of the event"
    return _FLAWS[flaw]


@asynccontextmanager
async def listening(
    settings: WebhookSettings,
    hints: WebhookHints,
    client: ResponsesClient,
    *,
    run_uid: str,
    clock: Clock,
    warn: Callable[[str, str], None],
) -> AsyncIterator[None]:
    """Listen until the end of the block, with an endpoint at the provider if a public URL is set.

    Raises ``ConfigError`` if the address or the secret cannot be used, and ``ProviderUnreachable`` if no endpoint can
    be made.
    """
    receiver = EventReceiver(hints, clock, warn)
    # Wall-clock time: that of the run does not follow the clock of the machine.
    listener = WebhookListener(receiver.receive, now=time.time, refused=receiver.refused)
    if settings.public_url is None:
        listener.verifier = settings.verifier(os.environ)
    async with AsyncExitStack() as stack:
        try:
            listener.open(settings.host, settings.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                # Another run, or another process of this one, has it: nothing depends on events.
                hints.expect_none()
                warn("webhooks_unavailable", f"{settings.listen} is in use: this process polls as without webhooks")
                yield
                return
            raise ConfigError(
                f"cannot listen on {settings.listen}: {error.strerror or type(error).__name__}",
                hint="choose another address for webhooks.listen",
            ) from None
        stack.callback(listener.close)
        if settings.public_url is not None:
            tests = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tests.cancel_scope.cancel)
            endpoint = webhook_endpoint(client, name=f"orchestrator {run_uid}", url=settings.public_url)
            endpoint_id, secret = await stack.enter_async_context(endpoint)
            listener.verifier = WebhookVerifier([secret])
            tests.start_soon(_test, receiver, client, endpoint_id)
        yield


async def _test(receiver: EventReceiver, client: ResponsesClient, endpoint_id: str) -> None:
    """Find out whether events reach this process; without them the run polls as it does without webhooks."""
    problem = await send_test_event(client, endpoint_id)
    with anyio.move_on_after(_TEST_S):
        if problem is None:
            await receiver.received.wait()
    if not receiver.received.is_set():
        receiver.no_event_reached()
