"""The columns of a row that its result is written with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.report.columns import Kind
from orchestrator.stores.reads import ResultRecord

__all__ = ["RowColumn", "find_columns", "refuse_unknown", "row_of"]

# Up to here a float is the whole number that was written.
_WHOLE_FLOATS = range(-(2**53), 2**53 + 1)
_INT64 = range(-(2**63), 2**63)


@fast_dataclass(kw_only=False)
class RowColumn:
    """One column of the rows, and the kind that all of its values have."""

    column: str
    kind: Kind

    @property
    def name(self) -> str:
        """The name in the header: ``row.COLUMN``."""
        return f"row.{self.column}"


def row_of(record: ResultRecord) -> Mapping[str, Any]:
    """The columns of a record's row that are kept; none if they were dropped."""
    packed = record.details.row if record.details is not None else b""
    return exact_json.loads(packed) if packed else {}


async def refuse_unknown(records: AsyncIterator[ResultRecord], names: Iterable[str], *, run: str) -> None:
    """Raise ``UsageError`` for a column that no row of the records has; they are read until each was found."""
    absent = dict.fromkeys(names)
    kept: dict[str, None] = {}
    async for record in records:
        row = row_of(record)
        kept.update(dict.fromkeys(row))
        for column in [column for column in absent if column in row]:
            del absent[column]
        if not absent:
            return
    if kept and absent:
        wanted = ", ".join(absent)
        raise UsageError(
            f"{run} keeps no column {wanted}; it keeps {', '.join(kept)}",
            hint=f"to keep more of the next run, name them in its job: output: {{include: [{wanted}]}}",
        )


async def find_columns(records: AsyncIterator[ResultRecord], names: Iterable[str] | None) -> tuple[RowColumn, ...]:
    """The columns to write with their kinds, in the order of ``names``, or of the rows if that is None."""
    kinds: dict[str, Kind | None] = dict.fromkeys(names or ())
    long: set[str] = set()
    async for record in records:
        for column, value in row_of(record).items():
            if names is not None and column not in kinds:
                continue
            kinds.setdefault(column)
            if value is not None:
                kinds[column] = _wider(kinds[column], _kind(value))
                if type(value) is int and value not in _WHOLE_FLOATS:
                    long.add(column)
    # Beside fractions, a whole number that no float holds would lose digits.
    kinds.update((column, Kind.TEXT) for column in long if kinds[column] is Kind.NUMBER)
    return tuple(RowColumn(column, kind or Kind.TEXT) for column, kind in kinds.items())


def _kind(value: Any) -> Kind:
    match value:
        case bool():
            return Kind.FLAG
        case int() if value in _INT64:
            return Kind.COUNT
        case float() if not isinstance(value, exact_json.ExactNumber):
            return Kind.NUMBER
    return Kind.TEXT


def _wider(one: Kind | None, other: Kind) -> Kind:
    """The kind of a column that has values of both."""
    if one in (None, other):
        return other
    return Kind.NUMBER if {one, other} == {Kind.COUNT, Kind.NUMBER} else Kind.TEXT
