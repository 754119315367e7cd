"""Checks whether events of the provider would reach a run: secret, address, and a test event if one can be had."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio

from orchestrator.core.errors import ConfigError, OrchestratorError
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.webhook_endpoints import send_test_event, webhook_endpoint
from orchestrator.provider.webhook_listener import WebhookListener
from orchestrator.provider.webhook_settings import WebhookSettings
from orchestrator.provider.webhooks import WebhookEvent, WebhookVerifier

__all__ = ["check_webhooks"]

_TEST_S = 15.0
_ENDPOINT = "orchestrator doctor"


async def check_webhooks(settings: WebhookSettings, client: ResponsesClient, *, wait_s: float = _TEST_S) -> str:
    """What was found, in words; raises ``OrchestratorError`` if no event would reach a run.

    With a public URL an endpoint is made, asked for a test event, and removed.
    """
    reached = asyncio.Event()
    async with AsyncExitStack() as stack:
        listener = _listener(settings, reached.set)
        stack.callback(listener.close)
        if settings.public_url is None:
            listener.verifier = settings.verifier(os.environ)
            return f"{settings.listen} is free, {settings.secret_env} is set; the provider's page sends a test event"
        endpoint = webhook_endpoint(client, name=_ENDPOINT, url=settings.public_url)
        endpoint_id, secret = await stack.enter_async_context(endpoint)
        listener.verifier = WebhookVerifier([secret])
        problem = await send_test_event(client, endpoint_id)
        with anyio.move_on_after(wait_s if problem is None else 0):
            await reached.wait()
        if reached.is_set():
            return f"a test event reached {settings.listen} by {settings.public_url}"
        why = f"no test event reached {settings.listen} within {wait_s:g} s"
        raise ConfigError(why, hint="see that webhooks.public_url leads to webhooks.listen, with the body unchanged")


def _listener(settings: WebhookSettings, reached: Callable[[], None]) -> WebhookListener:
    """A listener that is open; raises ``OrchestratorError`` if the address cannot be used."""

    def handle(_: WebhookEvent) -> bool:
        reached()
        return True

    listener = WebhookListener(handle, now=time.time, refused=lambda *_: None)
    try:
        listener.open(settings.host, settings.port)
    except OSError as error:
        why = f"cannot listen on {settings.listen}: {error.strerror or type(error).__name__}"
        raise OrchestratorError(why, hint="a run that listens there, or another program, must end first") from None
    return listener
