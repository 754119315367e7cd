"""Runs the sandbox: in a given event loop, or as the command ``orchestrator sandbox``."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from starlette.types import ASGIApp

from orchestrator.core.clock import Clock, SystemClock
from orchestrator.core.errors import ConfigError
from orchestrator.policy.pricing.tokens import count_tokens
from orchestrator.sandbox.sandbox_settings import OutageKind, OutageWindow, SandboxSettings
from orchestrator.sandbox.server.asgi_app import create_app
from orchestrator.sandbox.server.loopback_hosts import is_loopback
from orchestrator.sandbox.server.socket_listener import SocketListener
from orchestrator.sandbox.server.webhook_sender import WebhookSender
from orchestrator.sandbox.simulation.event_endpoints import WebhookEndpoints
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["loop_options", "running_sandbox", "serve"]

_BANNER = """\
sandbox: a simulated provider; its answers are extracts of their input, no model runs and no money is spent
sandbox: listening on {base_url} ({memory}); the ledger is at {ledger}
sandbox: to use it: export OPENAI_BASE_URL={base_url} OPENAI_API_KEY={key}
"""


@asynccontextmanager
async def running_sandbox(
    settings: SandboxSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    state_file: Path | None = None,
    clock: Clock | None = None,
    lock_wait_s: float = 30,
) -> AsyncIterator[str]:
    """Runs a sandbox in this event loop until the block ends; yields the base URL for clients.

    All its times come from ``clock``, by default the system's. Raises ``StoreError`` if the state file cannot be
    used, and ``ConfigError`` if the address is not available.
    """
    count_tokens("Load the vocabulary now, and not within the first call.")
    clock = clock or SystemClock()
    listener = SocketListener(host, port)
    with SandboxDatabase(state_file, lock_wait_s=lock_wait_s) as state:
        any_host = not is_loopback(host)
        endpoints = _endpoints(settings)
        app = create_app(
            settings, state, clock=clock, hang_up=listener.hang_up, any_host=any_host, webhooks=endpoints
        )
        await listener.open(app)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_play_outages, listener, app, settings.faults.outages, clock)
                if settings.webhooks is not None:
                    responses = ResponseStore(state, keep_bodies=settings.keep_bodies)
                    sender = WebhookSender(settings.webhooks, endpoints, responses, clock, seed=settings.seed)
                    tasks.start_soon(sender.run)
                yield listener.base_url
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await listener.close()


def _endpoints(settings: SandboxSettings) -> WebhookEndpoints:
    webhooks = settings.webhooks
    return WebhookEndpoints(webhooks.secret.get_secret_value() if webhooks and webhooks.secret else None)


async def _play_outages(
    listener: SocketListener, app: ASGIApp, outages: Sequence[OutageWindow], clock: Clock
) -> None:
    """Closes the port during each outage in which nothing listens."""
    started_at = clock.now()
    for outage in sorted(outages, key=lambda outage: outage.from_s):
        if outage.kind is OutageKind.REFUSE:
            await clock.sleep_until(started_at + outage.from_s)
            await listener.close()
            await clock.sleep_until(started_at + outage.to_s)
            await listener.open(app)


def serve(
    settings: SandboxSettings, *, host: str, port: int, state_file: Path | None, allow_remote: bool = False
) -> None:
    """Runs until Ctrl-C or SIGTERM; without ``allow_remote`` only on an address that other machines cannot reach."""
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached by other machines, and the sandbox accepts any key",
            hint="use --host 127.0.0.1, or --allow-remote if that is what you want",
        )
    anyio.run(_serve, settings, host, port, state_file, backend_options=loop_options())


async def _serve(settings: SandboxSettings, host: str, port: int, state_file: Path | None) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with running_sandbox(settings, host=host, port=port, state_file=state_file) as base_url:
            sys.stderr.write(
                _BANNER.format(
                    base_url=base_url,
                    ledger=base_url.removesuffix("/v1") + "/_ledger",
                    memory=f"state in {state_file}" if state_file else "state in memory only",
                    key="<the key of your settings>" if settings.api_key else "sk-sandbox",
                )
            )
            sys.stderr.flush()
            await anext(aiter(signals))


def loop_options() -> dict[str, Any]:
    """Options for ``anyio.run``: the faster event loop if it is installed."""
    return {"use_uvloop": find_spec("uvloop") is not None}
