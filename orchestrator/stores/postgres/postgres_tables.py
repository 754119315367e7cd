"""All tables of a PostgreSQL database, for a copy of the whole database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from orchestrator.core.money import Picodollars
from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.connection import SCHEMA
from orchestrator.stores.postgres.database import open_connection, store_error
from orchestrator.stores.tables import TableRow, totals_statement

__all__ = ["PostgresTables", "open_tables"]

_COLUMNS = """SELECT relname, attname
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY pg_class.oid, attnum"""
_OWN = frozenset({"schema_version", "writer", "holder"})
_COUNTED = ("run", "dataset", "entry", "price", "provider_batch")
_AT_ONCE = 2_000
# The first bytes of what is compressed; a text begins with another one.
_CODES = 8


class PostgresTables:
    """See ``stores.database_copy.Tables``; a server of its own counts on from the ids that were copied."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._raw = raw

    def columns(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for table, column in self._raw.execute(_COLUMNS, [SCHEMA]).fetchall():
            if table not in _OWN:
                found.setdefault(table, []).append(column)
        return found

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[TableRow]:
        data = columns.index("data") if table == "input_row" else None
        with psycopg.RawServerCursor(self._raw, "copied") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608  # our own names
            for row in cursor:
                yield row if data is None else (*row[:data], _text_or_bytes(row[data]), *row[data + 1 :])

    def add(self, table: str, columns: Sequence[str], rows: Iterable[TableRow]) -> None:
        encode = {"input_row": ("data", _bytes), "chain_turn": ("place", _json)}.get(table)
        changed = None if encode is None else columns.index(encode[0])
        with self._raw.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                if changed is not None and encode is not None:
                    row = (*row[:changed], encode[1](row[changed]), *row[changed + 1 :])
                copy.write_row(row)
        if table in _COUNTED:
            self._raw.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT coalesce(max(id), 1) FROM {table}))"  # noqa: S608
            )

    def totals(self, table: str, columns: Sequence[str]) -> tuple[int, Picodollars]:
        [(count, pusd)] = self._raw.execute(totals_statement(table, columns)).fetchall()
        return int(count), int(pusd)


@contextmanager
def open_tables(url: str, *, writes: bool) -> Iterator[PostgresTables]:
    """The tables of a database that exists, in one transaction."""
    raw = open_connection(url, writes=writes).raw
    try:
        with raw.transaction():
            if not writes:
                raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresTables(raw)
        if writes:
            raw.execute("ANALYZE")
    except psycopg.Error as error:
        raise store_error(error, shown_address(url)) from error
    finally:
        raw.close()


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _json(value: Any) -> Any:
    return None if value is None else json.dumps(value)


def _text_or_bytes(value: bytes) -> str | bytes:
    return value if value and value[0] < _CODES else value.decode()
