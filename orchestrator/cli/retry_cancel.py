"""``retry`` and ``cancel``: change what a run has still to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, ConfigOfDatabase, Database, Json, Keys, RunName, StageOfRow
from orchestrator.cli.output import say, say_json
from orchestrator.cli.session import opened
from orchestrator.core.errors import UsageError
from orchestrator.core.states import State

__all__ = ["cancel", "retry"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RetryChoice:
    """Which requests are queued again."""

    state: Annotated[
        list[Literal["failed", "cancelled"]] | None,
        Parameter(help="Which to queue again (repeatable); without it failed ones."),
    ] = None
    code: Annotated[str | None, Parameter(metavar="CODE", help="Only those that ended with this code.")] = None
    resolve_in_doubt: Annotated[
        Literal["resend", "fail"] | None,
        Parameter(
            help="Decide on requests whose reply was lost: send them again (they may have been answered and "
            "charged already), or count them as failed. Given alone, nothing else is queued."
        ),
    ] = None
    stage: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            help="Only those of one stage; groups of later stages that failed for want of them wait for them again.",
        ),
    ] = None
    flag: Annotated[
        str | None, Parameter(metavar="FLAG", help="Only those with this flag, which people set in the web view.")
    ] = None


async def retry(
    run: RunName,
    /,
    *,
    choice: Annotated[RetryChoice, Parameter(name="*")] = RetryChoice(),
    db: Database = None,
    config: ConfigOfDatabase = None,
    json: Json = False,
) -> None:
    """Queue failed requests again, for `run` to send them.

    The history of each is kept, and so is what it cost.
    """
    resolve_in_doubt = choice.resolve_in_doubt
    wanted = [State(name) for name in choice.state or ([] if resolve_in_doubt else ["failed"])]
    async with opened(db, config, writes=True) as orchestrator:
        moved = await orchestrator.retry(
            run,
            states=wanted,
            code=choice.code,
            flag=choice.flag,
            resolve_in_doubt=resolve_in_doubt,
            stage=choice.stage,
        )
        if json:
            say_json({"run": run, "requeued": moved})
        elif not moved:
            say(f"nothing of {run} matches, so nothing changed")
        elif resolve_in_doubt == "fail" and not wanted:
            say(f"{moved:,} requests of {run} were in doubt and count as failed now")
        else:
            but = ", but those that were in doubt count as failed" if resolve_in_doubt == "fail" else ""
            say(f"{moved:,} requests of {run} are queued again{but}; `run` with --run {run} sends them")


async def cancel(
    run: RunName,
    /,
    *,
    key: Keys = None,
    stage: StageOfRow = None,
    db: Database = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Cancel a run, or single rows of it, at the provider too.

    What waits is not sent; what is open is cancelled, and a late answer is taken and accounted all the same.
    """
    from orchestrator.report.summary import closing_table, summary_object

    if stage is not None and not key:
        raise UsageError("--stage names the stage of a --key", hint=f"orchestrator cancel {run} cancels all of it")
    async with opened(db, config, writes=True) as orchestrator:
        if key:
            _say_rows(run, await orchestrator.cancel_rows(run, key, stage=stage), json=json)
            return
        summary = await orchestrator.cancel(run)
        if json:
            say_json(summary_object(summary, orchestrator.database))
        else:
            say(closing_table(summary, places={"database": orchestrator.database}, failures={}))


def _say_rows(run: str, states: Mapping[str, State], *, json: bool) -> None:
    if json:
        say_json({"run": run, "rows": {key: state.value for key, state in states.items()}})
        return
    for key, state in states.items():
        open_ = state in (State.SUBMITTED, State.AWAITING_TOOLS)
        say(f"{key}: {'cancelled at the provider; the next poll of the run settles it' if open_ else state.value}")
