"""``view``: shows runs in a browser, beside the process that works on them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigOfDatabase, Database
from orchestrator.cli.output import note, say
from orchestrator.cli.session import find_places, read_config

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator

__all__ = ["shown_in_browser", "view"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ViewOptions:
    """The options of ``view``, in the order of its help page."""

    port: Annotated[int, Parameter(metavar="N", help="The port to listen on; 0 takes a free one.")] = 0
    control: Annotated[bool, Parameter(help="Let the pages write: flags and notes on rows.")] = False
    no_browser: Annotated[bool, Parameter(help="Only print the address.")] = False
    host: Annotated[str, Parameter(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1"
    allowed_host: Annotated[
        list[str] | None,
        Parameter(metavar="NAME", help="A name by which the pages may be called, for another --host (repeatable)."),
    ] = None
    db: Database = None
    config: ConfigOfDatabase = None


async def view(
    run: Annotated[str | None, Parameter(name="RUN", help="The run to open; without it, all runs.")] = None,
    /,
    *,
    options: Annotated[ViewOptions, Parameter(name="*")] = ViewOptions(),
) -> None:
    """Show runs in a browser: live figures, every row, costs, comparisons.

    It reads the database beside the process that works on it, changes nothing, and is reached only from this machine,
    at an address with a token. Ctrl-C ends it.
    """
    import anyio

    from orchestrator.web.view_server import serving_view

    async with serving_view(
        _database_of(options.db, options.config),
        host=options.host,
        port=options.port,
        may_write=options.control,
        allowed_hosts=frozenset(options.allowed_host or ()),
    ) as serving:
        address = serving.address(await serving.browser.run(run) if run is not None else None)
        say(address)
        note("these pages show prompts and answers to anyone who has the address; Ctrl-C ends them")
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            if not options.no_browser:
                await _open_browser(address)
            await anext(aiter(signals))


@asynccontextmanager
async def shown_in_browser(orchestrator: Orchestrator) -> AsyncIterator[str]:
    """Serve the pages of the database of a run that is about to start, and open them; yields their address.

    They end with the block.
    """
    from orchestrator.web.view_server import serving_view

    await orchestrator.prepare_database()
    async with serving_view(orchestrator.database) as serving:
        note(f"view: {serving.address()}")
        await _open_browser(serving.address())
        yield serving.address()


def _database_of(db: str | None, config: Path | None) -> str:
    """The database that the options name, or the one that other commands would read."""
    from orchestrator.stores.base import DEFAULT_DATABASE

    places = find_places(db, config, os.environ, Path.cwd())
    if places.config is None:
        return places.database or DEFAULT_DATABASE
    settings, database = read_config(places)
    return database or str(settings.database)


async def _open_browser(address: str) -> None:
    """Open an address in the user's browser; if there is none, the printed address must do."""
    import webbrowser

    import anyio

    with suppress(webbrowser.Error, OSError):
        await anyio.to_thread.run_sync(webbrowser.open, address)
