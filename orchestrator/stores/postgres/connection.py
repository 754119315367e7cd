"""A connection to PostgreSQL that runs the shared statements, and the settings of its session."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown

from orchestrator.stores.postgres.dialect import Dialect
from orchestrator.stores.sql.connection import Parameters, Row

__all__ = ["SCHEMA", "PostgresConnection", "connect", "holder_name"]

# All tables are in a schema of their own, beside whatever else is in the database.
SCHEMA = "orchestrator"
_CONNECT_TIMEOUT_S = 10
# A server whose host is gone is noticed in eleven seconds, and so is a client by the server.
_KEEPALIVES: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
_TCP_TIMEOUT_MS = 11_000
_SESSION = f"""
SET search_path = {SCHEMA};
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = {_TCP_TIMEOUT_MS};
SET client_connection_check_interval = 500;
SET synchronous_commit = on;
SET jit = off;
"""
# Statements of the writer are planned once, and always by an index: a table that was small then may be large by now.
_WRITER_SESSION = """
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
"""


class _WholeLoader(Loader):
    """Sums of integers come as ``numeric``; all of them are whole."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text else int(text)


class _BoolDumper(Int8Dumper):
    """Columns of yes and no are integers."""

    def dump(self, obj: Any) -> Any:
        return super().dump(int(obj))


# PostgreSQL's texts have no NUL: this character, for private use, marks one that follows it as its own kind.
_MARK, _NUL = "\uf8ff", "0"


class _StrDumper(StrDumperUnknown):
    """Texts, with NUL as PostgreSQL can store it."""

    def dump(self, obj: str) -> Any:
        if "\0" in obj or _MARK in obj:
            obj = obj.replace(_MARK, 2 * _MARK).replace("\0", _MARK + _NUL)
        return super().dump(obj)


class _TextLoader(Loader):
    """Texts as they were before ``_StrDumper``."""

    def load(self, data: Any) -> str:
        text = str(data, "utf-8")
        if _MARK not in text:
            return text
        return _MARK.join(part.replace(_MARK + _NUL, "\0") for part in text.split(2 * _MARK))


class PostgresConnection:
    """See ``stores.sql.connection.SqlConnection``."""

    def __init__(self, raw: psycopg.Connection[Any], dialect: Dialect) -> None:
        self.raw = raw
        self.dialect = dialect

    def execute(self, statement: str, parameters: Parameters = ()) -> psycopg.Cursor[Any]:
        prepared = self.dialect.translated(statement)
        # A transaction's own words, such as BEGIN, have no parameters and no plan.
        return self.raw.execute(prepared.text, prepared.values(parameters), prepare=bool(parameters) or None)

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> psycopg.Cursor[Any]:
        return self.execute_for_all(statement, list(rows))

    def execute_for_all(
        self, statement: str, rows: Sequence[Parameters], *, returning: str = ""
    ) -> psycopg.Cursor[Any]:
        """Run a statement for many rows, as one statement where that is possible."""
        widened = self.dialect.for_many(statement)
        if widened is not None:
            return self.raw.execute(widened.text + returning, widened.values(rows), prepare=True)
        prepared = self.dialect.translated(statement)
        cursor = self.raw.cursor()
        cursor.executemany(prepared.text, [prepared.values(row) for row in rows])
        return cursor

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        prepared = self.dialect.translated(statement)
        with self.raw.cursor(row_factory=dict_row) as cursor:
            cursor.execute(prepared.text, prepared.values(parameters))
            return cursor.fetchall()


def holder_name() -> str:
    """This process, under which others see it as the holder of a run."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def connect(url: str, *, writes: bool = False) -> psycopg.Connection[Any]:
    """Open a connection; raises ``psycopg.Error``."""
    connection = psycopg.connect(
        url,
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
        connect_timeout=_CONNECT_TIMEOUT_S,
        tcp_user_timeout=_TCP_TIMEOUT_MS,
        application_name=f"orchestrator {os.getpid()}",
        **_KEEPALIVES,
    )
    try:
        connection.execute(_SESSION + (_WRITER_SESSION if writes else ""))
    except BaseException:
        connection.close()
        raise
    connection.prepared_max = 500
    for kind, dumper in ((int, Int8Dumper), (bool, _BoolDumper), (str, _StrDumper)):
        connection.adapters.register_dumper(kind, dumper)
    connection.adapters.register_loader("numeric", _WholeLoader)
    connection.adapters.register_loader("text", _TextLoader)
    return connection
