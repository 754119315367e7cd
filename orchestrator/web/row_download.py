"""The rows of a list as a file: the lines of an export, for the filter in the address."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from orchestrator.core.states import State
from orchestrator.report.export import jsonl_line
from orchestrator.stores.base import ViewReader
from orchestrator.stores.reads import ResultRecord, Run
from orchestrator.stores.row_pages import RowFilter

__all__ = ["file_name", "lines_of"]


async def lines_of(reader: ViewReader, run: Run, chosen: RowFilter) -> AsyncIterator[bytes]:
    """Yields a line for each row of a run that fits a filter, with its whole answer, in constant memory."""
    async for record in reader.results(run.id, chosen.states or tuple(State)):
        if _fits(record, chosen):
            yield jsonl_line(record)


def _fits(record: ResultRecord, chosen: RowFilter) -> bool:
    return (
        chosen.code in (None, record.code)
        and chosen.stage in (None, record.stage)
        and chosen.flag in (None, record.flag)
        and (chosen.text is None or _holds(record, chosen.text))
    )


def _holds(record: ResultRecord, text: str) -> bool:
    """Whether a row has a text, as a search finds it: the case of ASCII letters does not matter."""
    wanted = _folded(text)
    parts = (record.key, record.code, record.message, record.output_text)
    return any(wanted in _folded(part) for part in parts if part is not None)


def _folded(text: str) -> str:
    return text.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def file_name(run: Run) -> str:
    """A name for the file that no system misreads."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', run.name).strip('.-')[:80] or 'rows'}.jsonl"
