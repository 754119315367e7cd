"""What the shared statements need of a driver: a connection that runs them, whichever database it leads to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

__all__ = ["Cursor", "Parameters", "Row", "SqlConnection"]

# By name, or in the order that a line ``-- takes:`` of the statement gives.
Parameters: TypeAlias = Mapping[str, Any] | Sequence[Any]
# A row whose columns are read by their names.
Row: TypeAlias = Any


class Cursor(Protocol):
    """The outcome of one statement; its rows are tuples."""

    @property
    def rowcount(self) -> int: ...

    @property
    def description(self) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class SqlConnection(Protocol):
    """Runs statements of the SQL files; used by one thread at a time."""

    def execute(self, statement: str, parameters: Parameters = (), /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]], /) -> Cursor: ...

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """What a statement finds, each row with its columns by name."""
        ...
