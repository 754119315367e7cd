"""All tables of a SQLite file, for a copy of the whole database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from orchestrator.core.money import Picodollars
from orchestrator.stores.sqlite.database import store_error
from orchestrator.stores.tables import TableRow, totals_statement

__all__ = ["SqliteTables", "open_tables"]

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
# Where ``PRAGMA table_xinfo`` says that a column is hidden, which those that follow from others are.
_HIDDEN = 6


class SqliteTables:
    """See ``stores.database_copy.Tables``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def columns(self) -> Mapping[str, Sequence[str]]:
        tables = [name for (name,) in self._connection.execute(_TABLES).fetchall()]
        return {table: self._columns_of(table) for table in tables}

    def _columns_of(self, table: str) -> list[str]:
        found = self._connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        return [column[1] for column in found if not column[_HIDDEN]]

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[TableRow]:
        yield from self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  # our own names

    def add(self, table: str, columns: Sequence[str], rows: Iterable[TableRow]) -> None:
        places = ", ".join("?" * len(columns))
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)  # noqa: S608

    def totals(self, table: str, columns: Sequence[str]) -> tuple[int, Picodollars]:
        count, pusd = self._connection.execute(totals_statement(table, columns)).fetchone()
        return count, pusd


@contextmanager
def open_tables(path: Path, *, writes: bool) -> Iterator[SqliteTables]:
    """The tables of a file that exists, in one transaction."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield SqliteTables(connection)
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
