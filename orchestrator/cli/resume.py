"""``resume``: finishes a run from the database, without its job file and its input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, Json, ProgressMode, RunName, Sandbox
from orchestrator.cli.run import close
from orchestrator.cli.session import find_places, read_config

__all__ = ["resume"]


async def resume(
    run: RunName,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            metavar="FILE",
            help="Write the results here at the end; without it where the job says.",
        ),
    ] = None,
    progress: Annotated[
        ProgressMode,
        Parameter(help="Progress on standard error; auto is a bar on a terminal and plain lines elsewhere."),
    ] = "auto",
    db: Database = None,
    config: ConfigFile = None,
    sandbox: Sandbox = False,
    json: Json = False,
) -> int:
    """Finish a run with the job and the rows that the database has.

    It needs neither the job file nor the input, once all rows were read; only the config that the run had, and the
    key. So a run can be finished although its input has changed since.
    """
    from orchestrator.app.api import Orchestrator
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.report.display import Mode

    loaded, database = read_config(find_places(db, config, os.environ, Path.cwd()), sandbox=sandbox)
    live = LiveRun(Mode(progress), os.environ, simulated=loaded.simulated)
    async with Orchestrator(loaded, database=database, observers=live.observers) as orchestrator:
        await orchestrator.upgrade()
        job = await orchestrator.job_of(run)
        targets = {job.last_stage: output} if output is not None else job.output_paths
        for target in targets.values():
            await orchestrator.check_target(target, job=job)
        outcome = await live.follow(orchestrator, orchestrator.resume(run))
        return await close(orchestrator, outcome, targets, job, json=json)
