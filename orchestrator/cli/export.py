"""``export``: results as a file, and the same at the end of a run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, TypeAlias

from cyclopts import Parameter

from orchestrator.cli.options import ConfigOfDatabase, Database
from orchestrator.cli.output import note, stdout_bytes
from orchestrator.cli.session import opened
from orchestrator.core.errors import UsageError
from orchestrator.core.states import SETTLED, RunState, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.app.api import Orchestrator
    from orchestrator.job.result_file import Included
    from orchestrator.report.export import Format
    from orchestrator.stores.reads import Run
    from orchestrator.stores.retained import Retained

__all__ = ["ExportPart", "export", "export_to_file"]

Which: TypeAlias = Literal["settled", "succeeded", "failed", "cancelled", "all"]

_STATES: dict[str, Sequence[State]] = {
    "settled": tuple(state for state in State if state in SETTLED),
    "succeeded": (State.SUCCEEDED,),
    "failed": (State.FAILED,),
    "cancelled": (State.CANCELLED,),
    "all": tuple(State),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportPart:
    """What is written: if not all of a run, and what beside the answers."""

    dataset: Annotated[
        str | None,
        Parameter(metavar="NAME", help="Write every row of a dataset, whichever run answered it, in place of a run."),
    ] = None
    stage: Annotated[
        str | None, Parameter(metavar="NAME", help="Only the results of one stage; without it those of all stages.")
    ] = None
    flag: Annotated[
        str | None, Parameter(metavar="FLAG", help="Only the rows with this flag, which people set in the web view.")
    ] = None
    with_parts: Annotated[
        bool, Parameter(help="Write the answers to parts of groups that were too large for one request, too.")
    ] = False
    include: Annotated[
        list[str] | None,
        Parameter(
            metavar="COLUMNS",
            help="Columns of the rows to write beside their answers: `title,author`, `all`, or `none`; without it "
            "those that the job's `output` includes (repeatable).",
        ),
    ] = None


async def export(
    run: Annotated[str | None, Parameter(help="The run's name.")] = None,
    /,
    *,
    part: Annotated[ExportPart, Parameter(name="*")] = ExportPart(),
    format: Annotated[  # noqa: A002
        Literal["jsonl", "csv", "safe-csv", "parquet", "openai-batch"] | None,
        Parameter(
            help="The shape; without it by the name of the file, else jsonl. `safe-csv` puts an apostrophe before "
            "each text that a spreadsheet would take for a formula."
        ),
    ] = None,
    state: Annotated[
        Which, Parameter(help="Which requests, all that have ended without it; `all` has the others too.")
    ] = "settled",
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"],
            metavar="FILE",
            allow_leading_hyphen=True,
            help="The file to write, replaced only when the new one is whole; without it standard output.",
        ),
    ] = None,
    db: Database = None,
    config: ConfigOfDatabase = None,
) -> None:
    """Write the results of a run, in the order of the input, or those of a dataset."""
    from orchestrator.report.export import Format, format_for

    dataset = part.dataset
    path = None if output in {None, "-"} else Path(str(output))
    shape = Format(format) if format else format_for(path)
    if (run is None) == (dataset is None):
        raise UsageError("name either a run or a dataset", hint="orchestrator export RUN, or export --dataset NAME")
    if part.include and shape is Format.OPENAI_BATCH:
        raise UsageError("a file of OpenAI's Batch API has no columns of rows", hint="leave --include out")
    async with opened(db, config) as orchestrator:
        stored = (await orchestrator.status(run) if run else await orchestrator.latest_night(dataset or "")).run
        if path:
            rows = await export_to_file(orchestrator, stored, path, shape, state, part)
            note(f"{path}: {rows:,} rows")
            is_whole = part.flag is None and state in {"settled", "all"}
            if run and is_whole and stored.state is RunState.FINISHED:
                await orchestrator.exported(run, stage=part.stage)
        else:
            with stdout_bytes() as out:
                await _write(orchestrator, stored, out, shape, state, part)


async def export_to_file(
    orchestrator: Orchestrator,
    run: Run,
    path: Path,
    shape: Format,
    which: Which = "settled",
    part: ExportPart = ExportPart(),
) -> int:
    """Write a file that appears only when it is whole; returns how many rows it has.

    With a dataset as the ``part``, its rows are written in place of the run's, which is the latest one that added to
    it.
    """
    from orchestrator.report.output_file import whole_file

    await orchestrator.check_target(path, run=run.name)
    _keep_what_is_left(path, run, await orchestrator.retained(run.name))
    with whole_file(path) as out:
        return await _write(orchestrator, run, out, shape, which, part)


def _keep_what_is_left(path: Path, run: Run, retained: Retained | None) -> None:
    """Raise ``UsageError`` rather than replace a file that has answers which are nowhere else any more."""
    if retained is not None and retained.outputs_dropped and path.is_file():
        raise UsageError(
            f"{retained.outputs_dropped:,} answers of the run were dropped after they were exported, "
            "and this file may be all that is left of them",
            where=str(path),
            hint=f"write the others to another file: orchestrator export {run.name} -o FILE",
        )


def _include(part: ExportPart) -> Included | None:
    """The columns of the rows that the command names; None if it does not say."""
    if part.include is None:
        return None
    # A name with a comma is written in quotes.
    named = [name.strip() for line in csv.reader(part.include, skipinitialspace=True) for name in line]
    match tuple(dict.fromkeys(name for name in named if name)):
        case ("all",):
            return "all"
        case ("none",):
            return "none"
        case ():
            raise UsageError("--include names no column", hint="--include title,author, or --include all")
        case names:
            return names


async def _write(
    orchestrator: Orchestrator, run: Run, out: BinaryIO, shape: Format, which: Which, part: ExportPart
) -> int:
    from orchestrator.app.write_results import Selection, write_results

    selection = Selection(
        run=run,
        states=_STATES[which],
        dataset=part.dataset,
        stage=part.stage,
        flag=part.flag,
        with_parts=part.with_parts,
        include=_include(part),
    )
    return await write_results(orchestrator, selection, out, shape)
