"""Compares the columns that a job reads with those of its input, before anything is planned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from orchestrator.core.errors import OrchestratorError, SpecError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.document import Document
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem, did_you_mean, listed
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import Row, UnreadableRow, open_rows
from orchestrator.job.rows.sources import STDIN, Format, resolve_format
from orchestrator.job.spec import Job

__all__ = ["refuse_missing_columns"]

# Formats in which every row has the same columns. A line of JSON may lack one that a later line has.
_WITH_HEADER: frozenset[Format] = frozenset({"csv", "parquet", "text"})
_MOST_UNREADABLE = 20
# So many lines of JSON are read for a column before it counts as misspelt; usually the first has all columns.
_MOST_LINES = 1_000


@fast_dataclass(kw_only=False)
class _FirstRows:
    """The columns of the first rows, and what to say of one that is not among them."""

    columns: Sequence[str]
    without: str


def refuse_missing_columns(job: Job, renderer: Renderer) -> None:
    """Raise ``SpecError`` if the first rows of the input lack a column without which no row can become a request.

    Whatever ``input.on_bad_row`` says: leaving out every row is never meant.
    """
    if renderer.carries_requests or (job.input.path == STDIN and job.rows is None):
        return
    wanted = dict(_columns_read(job, renderer))
    first = _first_rows(job, wanted)
    if first is None:
        return
    problems = [
        ValidationProblem(field, f'reads the column "{column}", {first.without}', _nearest(column, first.columns))
        for column, field in wanted.items()
        if column not in first.columns
    ]
    if problems:
        raise _error(job, problems)


def _first_rows(job: Job, wanted: Iterable[str]) -> _FirstRows | None:
    """None if no row can be read."""
    # Rows without a usable key cannot be read; the header is what it is.
    keyless = job.model_copy(update={"input": job.input.model_copy(update={"key": None})})
    every = open_rows(keyless, columns=frozenset())
    if resolve_format(job.input.path, job.input.format, job.base_dir) in _WITH_HEADER:
        row = next((each for each in islice(every, _MOST_UNREADABLE) if isinstance(each, Row)), None)
        return None if row is None else _FirstRows(list(row.data), "which the input does not have")
    return _first_lines(every, set(wanted))


def _first_lines(every: Iterator[Row | UnreadableRow], missing: set[str]) -> _FirstRows | None:
    columns: dict[str, None] = {}
    read = 0
    for each in islice(every, _MOST_LINES):
        read += 1
        if isinstance(each, Row):
            columns.update(dict.fromkeys(each.data))
            missing -= each.data.keys()
            if not missing:
                break
    if not columns:
        return None
    few = read < _MOST_LINES
    return _FirstRows(list(columns), "which no row has" if few else f"which none of the first {read:,} rows has")


def _columns_read(job: Job, renderer: Renderer) -> Iterator[tuple[str, FieldPath]]:
    named: Mapping[FieldPath, str | None] = {
        ("input", "key"): job.input.key,
        ("chain", "by"): job.chain.by if job.chain is not None else None,
        ("chain", "order"): job.chain.order if job.chain is not None else None,
    }
    yield from ((column, field) for field, column in named.items() if column is not None)
    for column, field in renderer.required_columns.items():
        yield column, ("request", *field)
    if isinstance(job.included_columns, tuple):
        yield from ((column, ("output", "include", place)) for place, column in enumerate(job.included_columns))


def _nearest(column: str, columns: Sequence[str]) -> str:
    longer = [each for each in columns if not each.isidentifier() and each.startswith(column)]
    if longer:
        return f'for the column "{longer[0]}" write {{{{ row["{longer[0]}"] }}}}'
    return did_you_mean(column, columns) or f"its columns are: {listed(columns)}"


def _error(job: Job, problems: Sequence[ValidationProblem]) -> OrchestratorError:
    if job.source is not None:
        return Document.read(job.source, kind="job").error(problems)
    first = problems[0]
    return SpecError(f"{'.'.join(map(str, first.field))}: {first.message}", hint=first.hint)
