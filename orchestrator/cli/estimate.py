"""``estimate``: what a job will take and cost, before it is sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, Json
from orchestrator.cli.output import note, say, say_json
from orchestrator.cli.run import overrides
from orchestrator.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.forecast.forecaster import Exact
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.job.spec import Job

__all__ = ["estimate"]


async def estimate(
    job: Annotated[Path, Parameter(name="JOB", help="The job file.")],
    /,
    *,
    exact: Annotated[
        str | None,
        Parameter(
            metavar="N|all", help="Have the provider count the tokens of N rows spread over the input, or of all."
        ),
    ] = None,
    pilot: Annotated[
        int | None,
        Parameter(metavar="N", help="Run the first N rows, which is paid for, and reckon with their answers."),
    ] = None,
    compare: Annotated[
        str | None,
        Parameter(metavar="MODELS", help="Price these models too, at each tier, with commas between them."),
    ] = None,
    config: ConfigFile = None,
    db: Database = None,
    limit: Annotated[int | None, Parameter(metavar="N", help="Read only the first N rows.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", metavar="FIELD=VALUE", help="Change a field of the job (repeatable)."),
    ] = None,
    progress: Annotated[
        Literal["auto", "bar", "plain", "none"], Parameter(help="Progress of a pilot on standard error.")
    ] = "auto",
    json: Json = False,
) -> int:
    """Tell what a job will take and cost before it is sent.

    Counts the tokens of every row. How long the answers will be is told by max_output_tokens, or more closely by
    earlier runs of the same requests in the database, or by a pilot.
    """
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.forecast.text import forecast_object, forecast_text
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.config import load_config
    from orchestrator.job.spec import load_job
    from orchestrator.report.display import Mode

    changes = overrides(set_ or ())
    spec = load_job(job, overrides=changes, limit=limit)
    settings = load_config(config)
    watch = LiveRun(Mode(progress), os.environ, simulated=settings.provider.sandbox is not None)
    models = [name.strip() for name in (compare or "").split(",") if name.strip()]
    async with Orchestrator(settings, database=db, observers=watch.observers) as orchestrator:
        learn_from = None
        if pilot is not None:
            learn_from, code = await _fly(
                orchestrator, watch, load_job(job, overrides=changes, limit=_at_least_one(pilot))
            )
            if learn_from is None:
                return code
        forecast = await orchestrator.estimate(spec, exact=_exact(exact), compare=models, learn_from=learn_from)
    if json:
        say_json(forecast_object(forecast))
    else:
        say(forecast_text(forecast))
    return ExitCode.OK


async def _fly(orchestrator: Orchestrator, watch: LiveRun, pilot: Job) -> tuple[str | None, int]:
    """Run some rows as an ordinary run; its name, or None with an exit code where it taught nothing."""
    from orchestrator.cli.run_outcome import exit_code
    from orchestrator.report import formatting

    outcome = await watch.follow(orchestrator, pilot, name=None, new=False)
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
