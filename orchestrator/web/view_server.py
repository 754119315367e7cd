"""Serves the web view on this machine until it is interrupted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.clock import Clock
from orchestrator.core.errors import UsageError
from orchestrator.sandbox.server.socket_listener import SocketListener
from orchestrator.stores.reads import Run
from orchestrator.web.access import is_loopback_host
from orchestrator.web.application import create_view
from orchestrator.web.page_addresses import path_of_run
from orchestrator.web.page_context import PageContext

__all__ = ["Serving", "check_address", "serving_view"]

_TOKEN_BYTES = 24


class Serving:
    """A view that is served; ``address`` has the token that lets one in."""

    def __init__(self, browser: RunBrowser, base_url: str, token: str) -> None:
        self.browser = browser
        self.base_url = base_url
        self.token = token

    def address(self, run: Run | None = None) -> str:
        """The address of all runs, or of one."""
        return f"{self.base_url}{path_of_run(run) if run is not None else '/'}?token={self.token}"


def check_address(host: str, allowed_hosts: frozenset[str]) -> None:
    """Raise ``UsageError`` if other machines could reach the view by a name that was not allowed."""
    if not is_loopback_host(host) and not allowed_hosts:
        raise UsageError(
            f"{host} can be reached by other machines, and the pages show prompts and answers",
            hint="name it as it may be called, --allowed-host NAME; or keep to 127.0.0.1 and use an SSH tunnel",
        )


@asynccontextmanager
async def serving_view(
    database: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    may_write: bool = False,
    allowed_hosts: frozenset[str] = frozenset(),
    clock: Clock | None = None,
) -> AsyncIterator[Serving]:
    """Serve a database in this event loop until the block ends; raises ``ConfigError`` if the port is taken."""
    check_address(host, allowed_hosts)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    async with RunBrowser.open(database, clock=clock) as browser:
        view = PageContext(browser=browser, may_write=may_write, form_token=secrets.token_urlsafe(_TOKEN_BYTES))
        names = frozenset(name.lower() for name in allowed_hosts)
        listener = SocketListener(host, port)
        await listener.open(create_view(view, token=token, hosts=names))
        warming = asyncio.create_task(anyio.to_thread.run_sync(_warm_up))
        try:
            yield Serving(browser, listener.base_url.removesuffix("/v1"), token)
        finally:
            with anyio.CancelScope(shield=True):
                await listener.close()
                await warming
                await view.figures.aclose()


def _warm_up() -> None:
    """Import what the page of a row needs, so that the first one is as quick as the others."""
    import orchestrator.app.sent_request  # noqa: F401
