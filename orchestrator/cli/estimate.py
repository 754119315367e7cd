"""``estimate``: estimates the tokens, cost and time of a job before it is sent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, JobFile, Json, Limit, ProgressMode, Sandbox
from orchestrator.cli.output import note, say, say_json
from orchestrator.cli.run import overrides
from orchestrator.cli.session import find_places, read_config
from orchestrator.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.forecast.forecaster import Exact
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.job.spec import Job

__all__ = ["estimate"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EstimateOptions:
    """The options of ``estimate``, in the order of its help page."""

    exact: Annotated[
        str | None,
        Parameter(
            metavar="N|all", help="Have the provider count the tokens of N rows spread over the input, or of all."
        ),
    ] = None
    pilot: Annotated[
        int | None,
        Parameter(metavar="N", help="Run the first N rows, at their price, and use their answers for the estimate."),
    ] = None
    compare: Annotated[
        str | None,
        Parameter(metavar="MODELS", help="Price these models too, at each tier, with commas between them."),
    ] = None
    sandbox: Sandbox = False
    config: ConfigFile = None
    db: Database = None
    limit: Limit = None
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", metavar="FIELD=VALUE", help="Change a field of the job (repeatable)."),
    ] = None
    progress: Annotated[ProgressMode, Parameter(help="Progress of a pilot on standard error.")] = "auto"
    json: Json = False


async def estimate(
    job: JobFile,
    /,
    *,
    options: Annotated[EstimateOptions, Parameter(name="*")] = EstimateOptions(),
) -> int:
    """Estimate the tokens, cost and time of a job before it is sent.

    Counts the tokens of every row. The length of the answers follows from max_output_tokens, or more closely from
    earlier runs of the same requests in the database, or from a pilot.
    """
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.forecast.text import forecast_object, forecast_text
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.job.spec import load_job
    from orchestrator.report.display import Mode

    changes = overrides(options.set_ or ())
    config, database = read_config(
        find_places(options.db, options.config, os.environ, Path.cwd()), sandbox=options.sandbox
    )
    read = partial(load_job, job, overrides=changes, allow_modules=config.allow_modules)
    spec = read(limit=options.limit)
    live = LiveRun(Mode(options.progress), os.environ, simulated=config.simulated)
    models = [name.strip() for name in (options.compare or "").split(",") if name.strip()]
    async with Orchestrator(config, database=database, observers=live.observers) as orchestrator:
        learn_from = None
        if options.pilot is not None:
            pilot = read(limit=_at_least_one(options.pilot))
            learn_from, code = await _run_pilot(orchestrator, live, pilot)
            if learn_from is None:
                return code
        exact = _exact(options.exact)
        forecast = await orchestrator.estimate(spec, exact=exact, compare=models, learn_from=learn_from)
    if options.json:
        say_json(forecast_object(forecast))
    else:
        say(forecast_text(forecast))
    return ExitCode.OK


async def _run_pilot(orchestrator: Orchestrator, live: LiveRun, pilot: Job) -> tuple[str | None, int]:
    """Run some rows as an ordinary run; returns its name, or None and an exit code if it gave no answers."""
    from orchestrator.report import formatting
    from orchestrator.report.exit_code import exit_code

    outcome = await live.follow(orchestrator, orchestrator.run(pilot))
    summary = outcome.summary
    note(f"pilot {summary.name}: {summary.requests.succeeded:,} answers for {formatting.dollars(summary.cost_pusd)}")
    if outcome.interrupted is None and summary.requests.succeeded:
        return summary.name, ExitCode.OK
    note(f"  no estimate without answers; {outcome.reason or 'see'}: orchestrator status {summary.name}")
    return None, exit_code(summary, outcome.interrupted)


def _exact(text: str | None) -> Exact | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if text.isdigit() and int(text):
        return int(text)
    raise UsageError(f"--exact {text}: must be a number of rows, or all")


def _at_least_one(rows: int) -> int:
    if rows < 1:
        raise UsageError(f"--pilot {rows}: must be at least 1")
    return rows
