"""``purge``: delete what the provider keeps of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, Database, Json, Keys, StageOfRow
from orchestrator.cli.output import note, say, say_json
from orchestrator.cli.session import opened
from orchestrator.core.errors import ExitCode, OrchestratorError, UsageError

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.retention.purge import Purged

__all__ = ["purge", "purge_what_is_due"]


async def purge(
    run: Annotated[str | None, Parameter(name="RUN", help="The run's name; it must be over.")] = None,
    /,
    *,
    due: Annotated[
        bool, Parameter(help="Delete what the retention of each run says is due by now; nothing else.")
    ] = False,
    key: Keys = None,
    stage: StageOfRow = None,
    db: Database = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Delete what the provider keeps of a run: responses, conversations, uploaded files.

    Each object is fetched after its deletion, and counts only if it is gone. May be interrupted and repeated.
    Results, costs and history stay in the database.
    """
    if stage is not None and not key:
        raise UsageError("--stage names the stage of a --key", hint="orchestrator purge RUN --key KEY --stage NAME")
    if due == (run is not None) or (key and run is None):
        raise UsageError("purge takes the name of a run, or --due", hint="orchestrator purge RUN, or: purge --due")
    async with opened(db, config, writes=True) as orchestrator:
        if run is not None:
            purged = await (orchestrator.purge_rows(run, key, stage=stage) if key else orchestrator.purge(run))
            unnamed = 0 if key else await _unnamed(orchestrator, run)
            if json:
                say_json({**_object(run, purged), "unnamed": unnamed})
            else:
                say("\n".join(_words(run, purged, unnamed)))
            return _exit_code(purged)
        return await _purge_due(orchestrator, json=json)


async def _purge_due(orchestrator: Orchestrator, *, json: bool) -> int:
    done: list[dict[str, Any]] = []
    worst: int = ExitCode.OK
    async for name, outcome in orchestrator.purge_due():
        if isinstance(outcome, OrchestratorError):
            note(f"{name}: {outcome}")
            worst = max(worst, outcome.exit_code)
            continue
        done.append(_object(name, outcome))
        worst = max(worst, _exit_code(outcome))
        if not json:
            say("\n".join(_words(name, outcome, 0)))
    if json:
        say_json(done)
    elif not done:
        say("nothing is due")
    return worst


async def purge_what_is_due(orchestrator: Orchestrator) -> None:
    """The same at the end of another command, whose outcome it does not change."""
    async for name, outcome in orchestrator.purge_due():
        if isinstance(outcome, OrchestratorError):
            note(f"retention of {name}: {outcome}")
        else:
            for line in _words(name, outcome, 0):
                note(line)


async def _unnamed(orchestrator: Orchestrator, run: str) -> int:
    """How many responses may exist whose ids were lost, so that they cannot be deleted."""
    summary = await orchestrator.status(run)
    return summary.possible_duplicates + summary.requests.in_doubt


def _words(run: str, purged: Purged, unnamed: int) -> list[str]:
    from orchestrator.app.retention.text import copies_in_words
    from orchestrator.report.formatting import count

    lines = [f"{run}: {copies_in_words(purged.deleted)} deleted at the provider, and checked to be gone"]
    if purged.unknown:
        lines.append(f"  {count(purged.unknown)} were not known there: expired, or of another project than the key's")
    if purged.left:
        more = " and more" if purged.stopped else ""
        lines.append(f"  {count(purged.left)}{more} left: {purged.reason}; the same command continues")
    if unnamed:
        lines.append(f"  {count(unnamed)} more may exist whose ids were lost with the reply: they cannot be deleted")
    return lines


def _object(run: str, purged: Purged) -> dict[str, Any]:
    return {
        "run": run,
        "deleted": {f"{kind}s": number for kind, number in purged.deleted.items()},
        "unknown": purged.unknown,
        "left": purged.left,
        "reason": purged.reason,
        "stopped": purged.stopped,
    }


def _exit_code(purged: Purged) -> int:
    if purged.stopped:
        return ExitCode.HALTED
    return ExitCode.OK if purged.complete else ExitCode.SOME_FAILED
