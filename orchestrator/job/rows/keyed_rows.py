"""The rows of a job's input, read lazily: one after the other, from any place on, in constant memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.core.errors import SpecError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.documents.validation_problems import did_you_mean, listed
from orchestrator.job.rows.csv_rows import CsvRows
from orchestrator.job.rows.formats import Columns, Malformed, ReadingRules, RowFormat
from orchestrator.job.rows.jsonl import JsonLines
from orchestrator.job.rows.openai_batch import OpenAIBatch
from orchestrator.job.rows.parquet_rows import ParquetFiles
from orchestrator.job.rows.sources import Format, Source, find_sources, identity_of, names_several, resolve_format
from orchestrator.job.rows.text_files import TextFiles
from orchestrator.job.spec import Job

__all__ = ["Row", "UnreadableRow", "input_identity", "open_rows"]

_FORMATS: dict[Format, type[RowFormat]] = {
    "jsonl": JsonLines,
    "csv": CsvRows,
    "parquet": ParquetFiles,
    "text": TextFiles,
    "openai-batch": OpenAIBatch,
}

# A key travels in the response's metadata, whose values end at 512 characters (Responses API, metadata).
_KEY_LIMIT = 512


@fast_dataclass(kw_only=False)
class Row:
    """One input row. ``position`` counts from 0, ``where`` says where a person finds it (``file:line``)."""

    position: int
    where: str
    key: str
    data: dict[str, Any]


@fast_dataclass(kw_only=False)
class UnreadableRow:
    """A row that cannot be read, or has no usable key; ``reason`` holds no text of it."""

    position: int
    where: str
    reason: str
    hint: str | None = None


def open_rows(
    job: Job, *, start: int = 0, stdin: BinaryIO | None = None, columns: Columns = None
) -> Iterator[Row | UnreadableRow]:
    """The rows from position ``start`` on, as far as ``input.limit``; those before are passed over unparsed.

    With ``columns``, only these and the key need to be right; the values of others may be null.

    Raises ``SpecError`` if a file is missing or damaged.
    """
    place, limit = job.input, job.input.limit
    reader = _FORMATS[resolve_format(place.path, place.format, job.base_dir)](
        ReadingRules(place.delimiter, place.encoding, place.caps)
    )
    key_column = place.key or reader.key_column
    if columns is not None and key_column is not None:
        columns |= {key_column}
    # Line numbers of several files are no keys by themselves.
    several = names_several(place.path, job.base_dir) or bool(place.earlier_paths)
    days = _Days(job.base_dir, place.earlier_paths)
    if job.rows is not None:
        stdin = io.BytesIO(job.rows)
    position = 0
    for source in find_sources(place.path, job.base_dir, place.earlier_paths):
        days.begin(source)
        name = source.name if job.rows is None else "rows"
        for line, unit in reader.units(source, stdin):
            if limit is not None and position >= limit:
                return
            if position >= start or days.compares:
                where = name if line is None else f"{name}:{line}"
                try:
                    data = reader.parse(unit, columns)
                    if key_column is not None:
                        key = _key(data, key_column)
                    else:
                        key = f"{source.relative}:{line}" if several else str(line)
                except Malformed as error:
                    if position >= start:
                        yield UnreadableRow(position, where, str(error), error.hint)
                else:
                    if not days.has_later(key) and position >= start:
                        yield Row(position, where, key, data)
            position += 1


class _Days:
    """Which keys the files of later days have: these rows replace those of the days before."""

    def __init__(self, base_dir: Path, earlier_paths: Sequence[str]) -> None:
        self.compares = bool(earlier_paths)
        self._later: set[bytes] = set()
        self._of_this_day: set[bytes] = set()
        # The files come by days, the latest first: each of these begins an earlier one.
        self._first_of_day = {first for path in earlier_paths if (first := _first_file(path, base_dir)) is not None}

    def begin(self, source: Source) -> None:
        """Begin to read a file."""
        if source.path in self._first_of_day:
            self._later |= self._of_this_day
            self._of_this_day = set()

    def has_later(self, key: str) -> bool:
        """Whether a later day has the key; remembers it for the days before."""
        if not self.compares:
            return False
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        self._of_this_day.add(digest)
        return digest in self._later


def _first_file(path: str, base_dir: Path) -> Path | None:
    try:
        return find_sources(path, base_dir)[0].path
    except SpecError:
        return None


def input_identity(job: Job) -> str:
    """Identifies the input: the files' names and sizes, and the content of their ends.

    Only the first and last 64 kB of each file are read, so a change in the middle that keeps the size is not seen.
    Standard input cannot be compared; it is always ``"stdin"``. Rows in memory are compared as a whole.
    """
    if job.rows is not None:
        return f"rows in memory, {len(job.rows)} bytes, sha256 {hashlib.sha256(job.rows).hexdigest()}"
    return identity_of(job.input.path, job.base_dir, job.input.earlier_paths)


def _key(data: dict[str, Any], column: str) -> str:
    try:
        value = data[column]
    except KeyError:
        near = did_you_mean(column, data) or f"its columns are: {listed(data)}"
        raise Malformed(f'the row has no column "{column}", which must be its key; {near}') from None
    match value:
        case bool() | None:
            pass
        case str() if value.strip():
            if len(value) > _KEY_LIMIT:
                raise Malformed(f'the key in column "{column}" is longer than {_KEY_LIMIT} characters')
            return value
        case int() | float():
            return str(value)
    kind = "is empty" if value is None or isinstance(value, str) else f"is a {type(value).__name__}"
    raise Malformed(f'the key in column "{column}" {kind}; a key must be text or a number')
