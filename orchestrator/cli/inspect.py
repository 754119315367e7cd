"""``status``, ``runs``, ``show`` and ``costs``: read runs without changing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.options import (
    ConfigFile,
    ConfigOfDatabase,
    Database,
    Json,
    RunName,
    RunNameOrNewest,
    StageOfRow,
)
from orchestrator.cli.output import say, say_json, stdout_bytes
from orchestrator.cli.session import opened
from orchestrator.core.errors import UsageError
from orchestrator.stores.cost_groupings import COST_GROUPINGS, METADATA_GROUPING, check_groupings

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator

__all__ = ["costs", "runs", "show", "status"]


async def status(
    run: RunNameOrNewest = None, /, *, db: Database = None, config: ConfigOfDatabase = None, json: Json = False
) -> None:
    """Show where a run stands: counts, tokens, cost, failures."""
    from orchestrator.app.retention.text import retention_object, retention_words
    from orchestrator.cli.run_outcome import doubt_causes, failure_codes
    from orchestrator.core.states import RunState
    from orchestrator.report.batches_sent import batches_object, batches_words
    from orchestrator.report.lanes_taken import lanes_object, lanes_words
    from orchestrator.report.summary import closing_table, summary_object

    async with opened(db, config) as orchestrator:
        summary = await orchestrator.status(run)
        retained = await orchestrator.retained(summary.name)
        words, lanes = retention_words(retained), await orchestrator.lanes(summary.name)
        batches = await orchestrator.batches(summary.name)
        if json:
            more = {"retention": retention_object(retained)} if retained and words else {}
            taken = {"lanes": lanes_object(lanes)} if lanes else {}
            taken |= {"batches": batches_object(batches)} if batches else {}
            say_json({**summary_object(summary, orchestrator.database), **more, **taken})
            return
        failures = await failure_codes(orchestrator, summary)
        places = {"database": orchestrator.database} | ({"retention": words} if words else {})
        over = summary.run.state in (RunState.FINISHED, RunState.CANCELLED)
        places |= {"lane": lanes_words(lanes, over=over)} if lanes else {}
        places |= {"batches": batches_words(batches)} if batches else {}
        doubts = await doubt_causes(orchestrator, summary)
        say(closing_table(summary, places=places, failures=failures, doubts=doubts))


async def runs(*, db: Database = None, config: ConfigOfDatabase = None, json: Json = False) -> None:
    """List every run in the database, the newest first."""
    from orchestrator.report.summary import runs_table, summary_object

    async with opened(db, config) as orchestrator:
        summaries = await orchestrator.runs()
        if json:
            say_json([summary_object(summary, orchestrator.database) for summary in summaries])
        else:
            say(runs_table(summaries))


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ShownPart:
    """Which row is shown, and what of it."""

    raw: Annotated[bool, Parameter(help="Print the latest response as it was received.")] = False
    input_items: Annotated[
        bool, Parameter(help="Ask the provider for the latest response's input items, and print one a line.")
    ] = False
    stage: StageOfRow = None


async def show(
    run: RunName,
    key: Annotated[str, Parameter(name="KEY", help="The row's key, as in the export.")],
    /,
    *,
    part: Annotated[ShownPart, Parameter(name="*")] = ShownPart(),
    db: Database = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show the history of one row: request, attempts, charges, answer.

    Everything is on disk; only --input-items asks the provider, and needs its config and key.
    """
    from orchestrator.report.request_history import history_object, history_text, raw_body

    stage = part.stage
    async with opened(db, config) as orchestrator:
        if part.input_items:
            async for item in orchestrator.input_items(run, key, stage=stage):
                with stdout_bytes() as out:
                    out.write(item + b"\n")
            return
        history = await orchestrator.show(run, key, stage=stage)
        if part.raw:
            body = raw_body(history)
            if body is None:
                raise UsageError(
                    f"no response is stored for {key!r}",
                    hint=f"see how it ended: orchestrator show {run} {key}",
                )
            with stdout_bytes() as out:
                out.write(body if body.endswith(b"\n") else body + b"\n")
            return
        sent = await orchestrator.request_sent(run, key, stage=stage)
        if json:
            say_json(history_object(history, sent))
        else:
            say(history_text(history, sent))


async def costs(
    run: Annotated[str | None, Parameter(name="RUN", help="The run's name; without it all runs.")] = None,
    /,
    *,
    by: Annotated[
        str | None,
        Parameter(
            metavar="WORDS",
            help=f"Group by any of {', '.join(COST_GROUPINGS)}, {METADATA_GROUPING}FIELD, with commas.",
        ),
    ] = None,
    csv: Annotated[bool, Parameter(help="Print CSV, a line for each group.")] = False,
    reconcile: Annotated[
        str | None,
        Parameter(
            metavar="FILE|fetch",
            help="Hold it against the provider's own costs or usage, from a file or fetched with an admin key.",
        ),
    ] = None,
    db: Database = None,
    config: ConfigOfDatabase = None,
    json: Json = False,
) -> None:
    """Sum up what was spent, exactly.

    A response whose cost is not known is never counted as free: it is shown apart, with the most it can be.
    """
    from orchestrator.report.costs import costs_csv, costs_object, costs_table

    groups = _groupings(by or ("model,tier" if run else "run"))
    async with opened(db, config) as orchestrator:
        if reconcile is not None:
            await _reconcile(orchestrator, run, reconcile, json=json)
            return
        rows = await orchestrator.costs(run, groups)
        if json:
            say_json(costs_object(rows, groups))
        elif csv:
            with stdout_bytes() as out:
                out.write(costs_csv(rows, groups).encode())
        else:
            say(costs_table(rows, groups))


async def _reconcile(orchestrator: Orchestrator, run: str | None, source: str, *, json: bool) -> None:
    from orchestrator.app.reconcile.text import reconciliation_object, reconciliation_text

    account = None if source == "fetch" else _read(Path(source))
    found = await orchestrator.reconcile(run, account=account)
    if json:
        say_json(reconciliation_object(found))
    else:
        say(reconciliation_text(found))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--reconcile {path}: the file cannot be read: {error.strerror}") from None


def _groupings(words: str) -> list[str]:
    groups = list(dict.fromkeys(word.strip() for word in words.split(",")))
    check_groupings(groups)
    return groups
