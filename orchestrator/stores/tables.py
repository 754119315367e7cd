"""The tables of a database as a whole, for copies of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from orchestrator.core.money import Picodollars

__all__ = ["TableRow", "Tables", "totals_statement"]

# A row in the form that SQLite stores: texts may stand for bytes, and numbers for texts.
TableRow: TypeAlias = Sequence[Any]


class Tables(Protocol):
    """The tables of one database in one transaction, read or written as a whole."""

    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns of each table that can be written, without those that follow from others."""
        ...

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[TableRow]:
        """All rows, in constant memory."""
        ...

    def add(self, table: str, columns: Sequence[str], rows: Iterable[TableRow]) -> None: ...

    def totals(self, table: str, columns: Sequence[str]) -> tuple[int, Picodollars]:
        """How many rows there are, and the sum of all that is money in them."""
        ...


def totals_statement(table: str, columns: Sequence[str]) -> str:
    """What ``Tables.totals`` asks; the same in every database."""
    money = [f"coalesce(sum({column}), 0)" for column in columns if column.endswith("pusd")]
    return f"SELECT count(*), {' + '.join(money) or '0'} FROM {table}"  # noqa: S608  # our own names
