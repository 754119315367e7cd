"""``run``: runs a job, or resumes it where it stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from orchestrator.cli.backfill import days_of, run_backfill
from orchestrator.cli.dry_run import show_dry_run
from orchestrator.cli.due import refuse_beside_due, run_due
from orchestrator.cli.export import ExportPart, export_to_file
from orchestrator.cli.options import ConfigFile, Database, Day, JobFile, Json, Limit, MoreJobs, ProgressMode, Sandbox
from orchestrator.cli.output import ReaderGone, note, say, say_json
from orchestrator.cli.purge import purge_what_is_due
from orchestrator.cli.resume_hint import command, given_option, program, resume_command, without_option
from orchestrator.cli.run_outcome import (
    doubt_causes,
    enough_usd,
    failure_codes,
    next_steps,
    nothing_sent,
    what_is_left,
)
from orchestrator.cli.session import Places, find_places, read_config
from orchestrator.cli.view import shown_in_browser
from orchestrator.core.errors import ExitCode, OrchestratorError, RunBusy, UsageError
from orchestrator.core.states import SETTLED, RunState, State
from orchestrator.report.exit_code import exit_code, is_empty

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.nights import NightOptions
    from orchestrator.app.supervisor import WorkerCommand
    from orchestrator.cli.live_run import RunOutcome
    from orchestrator.config import Config
    from orchestrator.job.spec import Job
    from orchestrator.stores.reads import Run, Summary

    # Files for the results of stages; the one without stages is None.
    Targets: TypeAlias = dict[str | None, Path]

# Runs of the same job that are named before a new one starts.
_SHOWN_RUNS = 3

__all__ = ["EPILOGUE", "close", "overrides", "run"]

EPILOGUE = """\
Examples
  orchestrator run job.yaml --sandbox
      try a job against the built-in sandbox: no key, no cost
  orchestrator run job.yaml --limit 10 --set request.model=gpt-6-luna
      ten rows with another model
  orchestrator run job.yaml --run nightly --json > summary.json
      a named run, created or resumed, with the summary for a script

Exit codes
  0         every request succeeded
  2         wrong usage, job, config or input row; what was sent is kept
  3         finished, but some requests failed, or there was none to send
  4         halted by key, quota, budget, deadline or doubt; resumable
  5         the database cannot be used
  6         busy: another process works on the run (with --due: 0)
  130, 143  interrupted; resumable

Environment
  ORCHESTRATOR_CONFIG      the config, where --config is absent
  ORCHESTRATOR_DB          the database, where --db is absent
  ORCHESTRATOR_LOG         the level of the log: debug, info, warning
  ORCHESTRATOR_LOG_FORMAT  how it is written: console, json
  NO_COLOR=1               no colours"""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RunOptions:
    """The options of ``run``, in the order of its help page."""

    sandbox: Sandbox = False
    config: ConfigFile = None
    db: Database = None
    run: Annotated[
        str | None,
        Parameter(name="--run", metavar="NAME", help="Create the run of this name, or resume it if it exists."),
    ] = None
    due: Annotated[
        bool,
        Parameter(help="Run what is due by the schedule of each job, once; do nothing if nothing is due."),
    ] = False
    new: Annotated[bool, Parameter(help="Start a new run even if one of this job is unfinished.")] = False
    day: Day = None
    backfill: Annotated[
        str | None,
        Parameter(
            metavar="FROM..TO",
            help="A run for each day of a range that has none yet, the oldest first: 2026-11-01..2026-11-15.",
        ),
    ] = None
    limit: Limit = None
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            metavar="FIELD=VALUE",
            help="Change a field of the job: request.model=gpt-6.1-sol (repeatable).",
        ),
    ] = None
    changed: Annotated[
        Literal["ask", "keep"] | None,
        Parameter(
            help="Where the job's prompt changed since its rows were answered: ask them again, or keep the answers."
        ),
    ] = None
    full_refresh: Annotated[bool, Parameter(help="Ask every row again, unchanged or not.")] = False
    until: Annotated[
        str | None,
        Parameter(
            metavar="STAGE",
            help="Ask only this stage and those that it needs; the same command without it continues from there.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        Parameter(
            metavar="N", help="Let N processes on this machine share the run; they share its limits and budget."
        ),
    ] = None
    accept_expired: Annotated[
        bool, Parameter(help="Ask again what the provider no longer knows, even if it knows no open response.")
    ] = False
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], metavar="FILE", help="Write the results here at the end."),
    ] = None
    dry_run: Annotated[bool, Parameter(help="Check every row and show the first request; send nothing.")] = False
    progress: Annotated[
        ProgressMode,
        Parameter(help="Progress on standard error; auto is a bar on a terminal and plain lines elsewhere."),
    ] = "auto"
    view: Annotated[bool, Parameter(help="Show the run in a browser while it goes.")] = False
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Ask nothing.")] = False
    json: Json = False


async def run(
    job: JobFile, /, *more: MoreJobs, options: Annotated[RunOptions, Parameter(name="*")] = RunOptions()
) -> int:
    """Run a job, or resume it where it stopped.

    Every row of the job's input becomes a background response; results and costs are stored in the database as they
    arrive. Without --run, the newest unfinished run of the same job is resumed, else a new one is created. Ctrl-C
    loses nothing, and the last message says how to resume. With --due, of each job with a schedule the night that is
    due is run, once; call it as often as you like.
    """
    if options.due:
        return await _run_due([job, *more], options)
    if more:
        raise UsageError("only one job can be run at a time", hint="with --due, several are run one after the other")
    if options.backfill is not None:
        return await _run_backfill(job, options)
    if sys.stderr.isatty():
        # What follows imports and reads for up to a second, or three on a cold disk.
        note(f"reading {job}")
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.model_dates import model_warnings
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.job.spec import load_job
    from orchestrator.report.display import Mode

    places = find_places(options.db, options.config, os.environ, Path.cwd())
    config, database = read_config(places, sandbox=options.sandbox)
    changes = overrides(options.set_ or ())
    spec = load_job(job, overrides=changes, limit=options.limit, allow_modules=config.allow_modules, day=options.day)
    targets, left_out = output_targets(spec, options), spec.output_path
    live = LiveRun(Mode(options.progress), os.environ, simulated=config.simulated)
    for warning in (*spec.warnings(), *model_warnings(spec, config, datetime.now(UTC).date())):
        live.warn(warning)
    if not targets:
        # So that the run does not write it when it is resumed either.
        spec = spec.without_output()
    async with Orchestrator(config, database=database, observers=live.observers) as orchestrator:
        for target in targets.values():
            await orchestrator.check_target(target, job=spec)
        await orchestrator.check(spec)
        night = night_options(spec, options)
        if options.dry_run:
            comparison = await orchestrator.compare(spec, night=night)
            checked = await orchestrator.dry_run(spec, until=options.until)
            show_dry_run(checked, comparison, json=options.json)
            none_there = not checked.rows and not spec.input.may_be_empty
            return ExitCode.SOME_FAILED if none_there or checked.invalid else ExitCode.OK
        await _ask_before_paying_twice(orchestrator, spec, options)
        await _announce_cost(orchestrator, spec, config, options)
        work = orchestrator.run(
            spec,
            name=options.run,
            new=options.new,
            night=night,
            accept_expired=options.accept_expired,
            until=options.until,
            workers=_workers(options, places, orchestrator.database),
        )
        async with shown_in_browser(orchestrator) if options.view else nullcontext() as address:
            outcome = await live.follow(orchestrator, work, address=address)
        code = await close(orchestrator, outcome, targets, spec, json=options.json)
        if not targets and left_out and outcome.summary.run.state is RunState.FINISHED:
            note(f"a trial, with --limit or --set, does not write {left_out}; -o FILE writes its results")
        summary = outcome.summary
        if options.until is None or outcome.interrupted is not None or summary.run.state is not RunState.PAUSED:
            return code
        # It was asked for its first stages only, and stopped as it should.
        return ExitCode.SOME_FAILED if summary.requests.failed or summary.requests.cancelled else ExitCode.OK


def _workers(options: RunOptions, places: Places, database: str) -> WorkerCommand | None:
    """The processes that share a run; None for the usual one."""
    if options.workers is None or options.workers == 1:
        return None
    if options.workers < 1:
        raise UsageError(f"--workers {options.workers}: at least one is needed")
    if database.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "--workers needs a database in a file",
            hint="in PostgreSQL one process works on a run, and several runs share the caps of day and month",
        )
    from orchestrator.app.supervisor import WorkerCommand
    from orchestrator.cli.worker import worker_command

    return WorkerCommand(options.workers, worker_command(places, database, sandbox=options.sandbox))


async def _run_due(jobs: Sequence[Path], options: RunOptions) -> ExitCode:
    refuse_beside_due(
        {
            "--run": options.run,
            "--new": options.new,
            "--date": options.day,
            "--backfill": options.backfill,
            "--limit": options.limit,
            "--set": options.set_,
            "--output": options.output,
            "--dry-run": options.dry_run,
            "--full-refresh": options.full_refresh,
            "--changed": options.changed,
            "--workers": options.workers,
        }
    )
    places = find_places(options.db, options.config, os.environ, Path.cwd())
    config, database = read_config(places, sandbox=options.sandbox)

    async def run_night(job: Job, name: str | None, night: NightOptions) -> ExitCode:
        return await _run_night(job, name, night, config=config, database=database, options=options)

    return await run_due(jobs, config, database, run_night, json=options.json)


async def _run_backfill(job: Path, options: RunOptions) -> ExitCode:
    given = {
        "--run": options.run,
        "--new": options.new,
        "--date": options.day,
        "--limit": options.limit,
        "--until": options.until,
        "--accept-expired": options.accept_expired,
        "--output": options.output,
        "--dry-run": options.dry_run,
        "--view": options.view,
        "--workers": options.workers,
    }
    for option in [name for name, value in given.items() if value]:
        raise UsageError(f"{option} cannot be given with --backfill", hint="each day has a run and a date of its own")
    _refuse_trial(options.set_ or ())
    days = days_of(options.backfill or "")
    from orchestrator.app.api import Orchestrator
    from orchestrator.job.spec import load_job

    places = find_places(options.db, options.config, os.environ, Path.cwd())
    config, database = read_config(places, sandbox=options.sandbox)
    load = partial(
        load_job,
        job,
        overrides=overrides(options.set_ or ()),
        allow_modules=config.allow_modules,
    )

    async def run_day(spec: Job, name: str, shared_cost_pusd: int) -> ExitCode:
        night = replace(night_options(spec, options), shared_cost_pusd=shared_cost_pusd)
        return await _run_night(spec, name, night, config=config, database=database, options=options)

    async with Orchestrator(config, database=database) as orchestrator:
        return await run_backfill(days, lambda day: load(day=day), orchestrator, run_day)


def _refuse_trial(changes: Sequence[str]) -> None:
    from orchestrator.job.spec import changes_rows

    for change in changes:
        if changes_rows(overrides([change])):
            hint = "what asks other rows, or asks them otherwise, is a trial and stands for no day"
            raise UsageError(f"--set {change} cannot be given with --backfill", hint=hint)


async def _run_night(
    job: Job, name: str | None, night: NightOptions, *, config: Config, database: str | None, options: RunOptions
) -> ExitCode:
    """Run a job that stands for a day to its end."""
    from orchestrator.app.api import Orchestrator
    from orchestrator.cli.live_run import LiveRun
    from orchestrator.report.display import Mode

    live = LiveRun(Mode(options.progress), os.environ, simulated=config.simulated)
    targets = output_targets(job, options)
    for warning in job.warnings():
        live.warn(warning)
    async with Orchestrator(config, database=database, observers=live.observers) as orchestrator:
        for target in targets.values():
            await orchestrator.check_target(target, job=job)
        await orchestrator.check(job)
        outcome = await live.follow(orchestrator, orchestrator.run(job, name=name, night=night))
        return await close(orchestrator, outcome, targets, job, json=options.json)


async def close(
    orchestrator: Orchestrator, outcome: RunOutcome, targets: Targets, job: Job, *, json: bool
) -> ExitCode:
    """Write the results, print how the run ended and what to type next; returns the exit code."""
    await _write_results(orchestrator, outcome, targets, job, json=json)
    if outcome.interrupted is None:
        await purge_what_is_due(orchestrator)
    await _print_next_steps(orchestrator, outcome, job)
    return exit_code(outcome.summary, outcome.interrupted, may_be_empty=job.input.may_be_empty)


def overrides(texts: Sequence[str]) -> dict[str, str]:
    """``["request.model=gpt-6.1-sol"]`` as a mapping; raises ``UsageError`` if there is no ``=``."""
    changes = {}
    for text in texts:
        field, separator, value = text.partition("=")
        if not field or not separator:
            raise UsageError(f"--set {text}: no value is given", hint="write it as --set request.model=gpt-6.1-sol")
        changes[field.strip()] = value
    return changes


def output_targets(job: Job, options: RunOptions) -> Targets:
    """Where the results of each stage go: where the command line says, else where the job says.

    A trial has other rows or other requests than the job, and would replace the results that the job is for.
    """
    from orchestrator.job.spec import changes_rows

    if options.output is not None:
        return {job.last_stage: options.output}
    changed = overrides(options.set_ or ())
    is_trial = options.limit is not None or changes_rows(changed)
    return {} if is_trial and "output" not in changed else job.output_paths


def night_options(job: Job, options: RunOptions) -> NightOptions:
    """What the options say for a job with increments; raises ``UsageError`` for any other job."""
    from orchestrator.app.nights import NightOptions

    if job.increments is None and (options.changed or options.full_refresh):
        option = "--changed" if options.changed else "--full-refresh"
        raise UsageError(
            f"{option} is for a job with increments, and this job has none",
            hint="add an increments section to the job; --new asks every row again in a new run",
        )
    return NightOptions(changed=options.changed, full_refresh=options.full_refresh)


async def _ask_before_paying_twice(orchestrator: Orchestrator, job: Job, options: RunOptions) -> None:
    """Name the unfinished runs of the same job that a new run would leave behind; on a terminal, ask."""
    left = await orchestrator.left_behind(job, name=options.run, new=options.new)
    for summary in left[:_SHOWN_RUNS]:
        note(f"{summary.run.name} of the same job is unfinished: {what_is_left(summary)}")
        note(f"  to finish it:  {command('resume', summary.run.name)}")
    if not left:
        return
    if options.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        note("a new run is started, which asks for its rows again; `reuse: same-request` in the job would not")
        return
    note("Start a new run, which asks for its rows again? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("no new run was started")


async def _announce_cost(orchestrator: Orchestrator, job: Job, config: Config, options: RunOptions) -> None:
    """Print what a new run will about cost; on a terminal, ask if that may be much.

    Elsewhere no one can answer, and a script must not wait: only budgets limit the cost there.
    """
    from orchestrator.app.forecast.text import forecast_line, most_cost
    from orchestrator.core.money import parse_usd
    from orchestrator.report import formatting

    limit = parse_usd(config.budget.confirm_above_usd)
    has_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    forecast = await orchestrator.glance(job, name=options.run, new=options.new, until=options.until)
    if forecast is not None:
        note(f"estimate: {forecast_line(forecast)}")
        most = most_cost(forecast)
        if forecast.reused is None and has_terminal and (most is None or most > limit) and not options.yes:
            # It matters how much is reused: every row is read.
            forecast = await orchestrator.estimate(job)
            note(f"with what earlier runs have: {forecast_line(forecast)}")
            most = most_cost(forecast)
    elif has_terminal or options.full_refresh:
        comparison = await orchestrator.compare(job, night=night_options(job, options))
        if comparison is None:
            return
        most = comparison.about_pusd if comparison.asked else 0
        cost = "at a cost not known" if most is None else f"for about {formatting.dollars(most)}"
        note(f"compared with {comparison.since}: {comparison.asked:,} rows are asked, {cost}")
    else:
        return
    if config.simulated or options.yes or (most is not None and most <= limit):
        return
    if not has_terminal and options.full_refresh:
        raise UsageError("asking every row again may cost more than may be spent unasked", hint="say --yes as well")
    if not has_terminal:
        note(f"  it may cost more than {formatting.dollars(limit)}, only a budget stops it (no terminal to ask)")
        return
    cost = formatting.dollars(limit)
    note(f"It may cost more than {cost} (budget.confirm_above_usd in the config). Start it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError(
            "nothing was started", hint="orchestrator estimate JOB --pilot 20 estimates the cost more closely"
        )


async def _write_results(
    orchestrator: Orchestrator, outcome: RunOutcome, targets: Targets, job: Job, *, json: bool
) -> None:
    """Write the results if the run is complete, so that each file is always whole, and print how the run ended."""
    from orchestrator.report.summary import closing_table, summary_object

    summary, database = outcome.summary, orchestrator.database
    finished = summary.run.state is RunState.FINISHED
    places: dict[str, str] = {}
    problem: OrchestratorError | None = None
    for stage, target in targets.items() if finished else ():
        if _would_lose(summary, target, job, stage):
            lost = f"no request of {summary.run.name} succeeded"
            note(f"{target} is left as it was: {lost}; export writes it all the same")
            continue
        try:
            rows = await _export(orchestrator, summary.run, target, job, stage)
            places["results" if len(targets) == 1 else str(stage)] = f"{target} ({rows:,} rows)"
        except (UsageError, RunBusy) as error:
            error.hint = f"the results are safe in {database}; orchestrator export {summary.run.name} -o FILE"
            problem = problem or error
    places["database"] = database
    if finished and not outcome.began:
        note(f"nothing was left to do: every request of {summary.run.name} is settled")
    # The reader of standard output may be gone; the run ended the same way.
    with suppress(ReaderGone):
        if json:
            say_json(summary_object(summary, database))
            if outcome.reason and summary.run.state is RunState.HALTED:
                # The object has the code of the reason only.
                note(f"halted: {outcome.reason}")
        else:
            failures = await failure_codes(orchestrator, summary)
            doubts = await doubt_causes(orchestrator, summary)
            say(closing_table(summary, places=places, failures=failures, doubts=doubts, reason=outcome.reason))
    if problem:
        raise problem


async def _export(orchestrator: Orchestrator, run: Run, target: Path, job: Job, stage: str | None) -> int:
    from orchestrator.report.export import format_for

    part = ExportPart(dataset=job.dataset if stage is None else None, stage=stage)
    rows = await export_to_file(orchestrator, run, target, format_for(target), part=part)
    await orchestrator.exported(run.name, stage=stage)
    return rows


def _would_lose(summary: Summary, target: Path, job: Job, stage: str | None) -> bool:
    """Whether the results of a run without a single success would replace a file that may have some."""
    counts = summary.requests if stage is None else summary.stages[stage].requests
    if counts.get(State.SUCCEEDED, 0) or job.dataset is not None or not target.is_file():
        return False
    return not (is_empty(summary) and job.input.may_be_empty)


def _on_the_wire(summary: Summary) -> str:
    """What an interruption left without a reply."""
    sending = summary.requests.get(State.SUBMITTING, 0)
    if not sending:
        return "nothing is lost"
    was = "was" if sending == 1 else "were"
    return (
        f"{sending:,} {was} on the wire without a reply: the next run sends what is cheap or free again, "
        "and holds the rest for your decision"
    )


async def _print_next_steps(orchestrator: Orchestrator, outcome: RunOutcome, job: Job) -> None:
    summary, called_as = outcome.summary, program()
    counts = summary.requests
    arguments = sys.argv[1:] if outcome.interrupted else without_option("--until", sys.argv[1:])
    if outcome.interrupted and summary.run.state is not RunState.FINISHED:
        settled = sum(counts.get(state, 0) for state in SETTLED)
        open_ones = counts.get(State.SUBMITTED, 0)
        note(f"interrupted with {settled:,} settled and {open_ones:,} open; {_on_the_wire(summary)}")
    if summary.run.state is RunState.FINISHED and is_empty(summary) and not job.input.may_be_empty:
        note(f"warning: {await nothing_sent(orchestrator, summary)}")
    steps = next_steps(
        summary,
        called_as=called_as,
        database=orchestrator.database,
        config=given_option("--config", sys.argv[1:]),
        resume=resume_command(called_as, arguments, summary.run.name, budget_usd=enough_usd(summary)),
    )
    for step in steps:
        note(f"  {step}")
    if steps and job.input.path == "-":
        note("  (with the same rows on standard input)")
