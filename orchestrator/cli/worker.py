"""``worker``: works on shards of a run that another process has planned."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, Sandbox
from orchestrator.cli.output import note
from orchestrator.cli.session import Places, find_places, read_config
from orchestrator.cli.signals import Interruption
from orchestrator.core.errors import ExitCode
from orchestrator.core.states import RunState

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator

__all__ = ["worker", "worker_command"]


async def worker(
    *,
    run: Annotated[
        str | None,
        Parameter(name="--run", metavar="NAME", help="The run to work on; else the newest that is not over."),
    ] = None,
    db: Database = None,
    config: ConfigFile = None,
    sandbox: Sandbox = False,
    supervised: Annotated[bool, Parameter(show=False)] = False,
) -> int:
    """Work on shards of a run that was started with `run --workers N`, and end when none is left.

    `run --workers` starts its own workers, and starts one again that dies. This command is for a worker that is
    started otherwise: it takes a free place, and with it its share of the limits. It needs the config that the
    run has, and the key.
    """
    from orchestrator.app.api import Orchestrator

    loaded, database = read_config(find_places(db, config, os.environ, Path.cwd()), sandbox=sandbox)
    async with Orchestrator(loaded, database=database) as orchestrator:
        with Interruption(orchestrator.stop) as interruption:
            if supervised:
                _stop_with_parent(orchestrator)
            ended = await orchestrator.work(run)
            interruption.disarm()
    if interruption.code is not None:
        return interruption.code
    if ended is None:
        note("no shard is left to work on: each one is done, or another process has it")
        return ExitCode.OK
    if ended.error is not None:
        raise ended.error
    # What is held in doubt stops no other request.
    halted = ended.state is RunState.HALTED and ended.reason != "in_doubt"
    return ExitCode.HALTED if halted else ExitCode.OK


def worker_command(places: Places, database: str, *, sandbox: bool) -> Sequence[str]:
    """The command that starts a worker of a run of this process, with the same config and database."""
    config = ["--config", str(places.config)] if places.config is not None else []
    return [
        sys.executable,
        "-m",
        "orchestrator",
        "worker",
        "--supervised",
        "--db",
        database,
        *config,
        *(["--sandbox"] if sandbox else []),
    ]


def _stop_with_parent(orchestrator: Orchestrator) -> None:
    """Stop when the process that started this one has ended, however: then this process's input is closed."""
    # Imported here, so that every --help starts without it.
    from anyio import from_thread, lowlevel

    token = lowlevel.current_token()

    def wait() -> None:
        while os.read(0, 1024):
            pass
        from_thread.run_sync(orchestrator.stop, token=token)

    threading.Thread(target=wait, daemon=True).start()
