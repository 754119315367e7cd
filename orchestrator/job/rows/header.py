"""Compares the columns that a job reads with those of its input, before anything is planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from orchestrator.core.errors import OrchestratorError, SpecError
from orchestrator.job.documents.document import Document
from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem, did_you_mean, listed
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import Row, open_rows
from orchestrator.job.rows.sources import STDIN, Format, resolve_format
from orchestrator.job.spec import Job

__all__ = ["refuse_missing_columns"]

# Formats in which every row has the same columns. A line of JSON may lack one that the next line has.
_WITH_HEADER: frozenset[Format] = frozenset({"csv", "parquet", "text"})
_MOST_UNREADABLE = 20


def refuse_missing_columns(job: Job, renderer: Renderer) -> None:
    """Raise ``SpecError`` if the header of the input lacks a column without which no row can become a request.

    Whatever ``input.on_bad_row`` says: leaving out every row is never meant.
    """
    if job.input.path == STDIN or resolve_format(job.input.path, job.input.format, job.base_dir) not in _WITH_HEADER:
        return
    columns = _header(job)
    if columns is None:
        return
    problems = [
        ValidationProblem(
            field, f'reads the column "{column}", which the input does not have', _nearest(column, columns)
        )
        for column, field in _columns_read(job, renderer)
        if column not in columns
    ]
    if problems:
        raise _error(job, problems)


def _header(job: Job) -> Sequence[str] | None:
    """The columns of the first rows that can be read; None if none can."""
    # Rows without a usable key cannot be read; the header is what it is.
    keyless = job.model_copy(update={"input": job.input.model_copy(update={"key": None})})
    first = (row for row in islice(open_rows(keyless, columns=frozenset()), _MOST_UNREADABLE) if isinstance(row, Row))
    row = next(first, None)
    return None if row is None else list(row.data)


def _columns_read(job: Job, renderer: Renderer) -> Iterator[tuple[str, FieldPath]]:
    named: Mapping[FieldPath, str | None] = {
        ("input", "key"): job.input.key,
        ("chain", "by"): job.chain.by if job.chain is not None else None,
        ("chain", "order"): job.chain.order if job.chain is not None else None,
    }
    yield from ((column, field) for field, column in named.items() if column is not None)
    for column, field in renderer.required_columns.items():
        yield column, ("request", *field)


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
