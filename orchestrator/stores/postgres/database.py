"""Opens a database on a server, upgrades its schema, and turns the server's errors into words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import errors

from orchestrator.core.errors import OutdatedDatabase, StoreError
from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.connection import SCHEMA, PostgresConnection, connect
from orchestrator.stores.postgres.dialect import Columns, Dialect
from orchestrator.stores.user_errors import RUN_A_JOB, empty_database

__all__ = ["is_lost", "is_unusable", "migrations", "open_connection", "store_error"]

_OLDEST_SERVER = 14
_MIGRATIONS = files("orchestrator.stores.postgres").joinpath("migrations")
_MIGRATION_LOCK = 0x6F72_6300
_COLUMNS = """SELECT relname, attname, format_type(atttypid, NULL)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace($1) AND attnum > 0 AND NOT attisdropped"""


@cache
def migrations() -> list[str]:
    """The scripts that make the schema, in order."""
    found = sorted(_MIGRATIONS.iterdir(), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in found if file.name.endswith(".sql")]


def open_connection(url: str, *, writes: bool) -> PostgresConnection:
    """Open a database; a writer makes and upgrades its schema. Raises ``StoreError`` if it cannot be used."""
    where = shown_address(url)
    try:
        raw = connect(url, writes=writes)
    except psycopg.Error as error:
        raise store_error(error, where) from error
    try:
        _check_server(raw, where)
        _refuse_shared_sessions(raw, lambda: connect(url), where)
        if writes:
            _migrate(raw, where)
        else:
            _check_version(raw, where)
        return PostgresConnection(raw, _dialect(raw))
    except psycopg.Error as error:
        raw.close()
        raise store_error(error, where) from error
    except BaseException:
        raw.close()
        raise


_dialects: list[Dialect] = []


def _dialect(raw: psycopg.Connection[Any]) -> Dialect:
    """The one dialect of this process: every database that it opens has the same columns."""
    if not _dialects:
        columns: Columns = {(table, name): kind for table, name, kind in raw.execute(_COLUMNS, [SCHEMA]).fetchall()}
        _dialects.append(Dialect(columns))
    return _dialects[0]


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────


def _check_server(raw: psycopg.Connection[Any], where: str) -> None:
    version = raw.info.server_version // 10_000
    if version < _OLDEST_SERVER:
        raise StoreError(
            f"the server is PostgreSQL {version}; {_OLDEST_SERVER} or newer is needed",
            where=where,
            hint="upgrade the server, or name another one with --db",
        )


def _refuse_shared_sessions(
    raw: psycopg.Connection[Any], connect_again: Callable[[], psycopg.Connection[Any]], where: str
) -> None:
    """Raise ``StoreError`` if a pooler gives each transaction another session: no lock or setting would hold."""
    if _session_of(raw) == raw.info.backend_pid:
        return
    with connect_again() as other:
        for _ in range(5):
            if _session_of(raw) == _session_of(other):
                raise StoreError(
                    "a connection pooler shares one session among several clients, and locks need one of their own",
                    where=where,
                    hint="name the server itself with --db, or set pool_mode = session in PgBouncer",
                )


def _session_of(raw: psycopg.Connection[Any]) -> int:
    found = raw.execute("SELECT pg_backend_pid()").fetchone()
    return int(found[0]) if found else 0


# ── the schema ────────────────────────────────────────────────────────────────────────────────────────────────


def _version(raw: psycopg.Connection[Any]) -> int:
    """The schema's version; 0 if there is none."""
    [found] = raw.execute("SELECT to_regclass($1) IS NOT NULL", [f"{SCHEMA}.schema_version"]).fetchall()
    if not found[0]:
        return 0
    [(version,)] = raw.execute(f"SELECT coalesce(max(version), 0) FROM {SCHEMA}.schema_version").fetchall()  # noqa: S608
    return int(version)


def _check_version(raw: psycopg.Connection[Any], where: str) -> None:
    version, newest = _version(raw), len(migrations())
    if version == 0:
        raise empty_database(where)
    _refuse_newer(version, where)
    if version < newest:
        raise OutdatedDatabase(
            f"the database has schema version {version}, this program reads version {newest}",
            where=where,
            hint=f"upgrade it with any command that writes, such as: {RUN_A_JOB}",
        )


def _refuse_newer(version: int, where: str) -> None:
    if version > len(migrations()):
        raise StoreError(
            f"the database has schema version {version}, this program knows versions up to {len(migrations())}",
            where=where,
            hint="a newer orchestrator wrote it: upgrade this one, or name another database with --db",
        )


def _migrate(raw: psycopg.Connection[Any], where: str) -> None:
    """Apply the scripts that the database has not seen, in one transaction."""
    version = _version(raw)
    _refuse_newer(version, where)
    if version == len(migrations()):
        return
    with raw.transaction():
        # Another process may be doing the same.
        raw.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        if _version(raw) == 0:
            raw.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            raw.execute(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_version (version bigint NOT NULL)")
        for number, script in enumerate(migrations(), start=1):
            if _version(raw) < number:
                raw.execute(script)
                raw.execute(f"INSERT INTO {SCHEMA}.schema_version (version) VALUES ({number})")  # noqa: S608


# ── what the server says ──────────────────────────────────────────────────────────────────────────────────────

_AGAIN = "run the same command again: all that was reported as done is safe"
_MEANINGS: tuple[tuple[type[psycopg.Error], str, str], ...] = (
    (errors.InvalidPassword, "the server refused the password", "set PGPASSWORD, or put it into ~/.pgpass"),
    (errors.InvalidCatalogName, "there is no such database on the server", "create it with: createdb NAME"),
    (errors.InsufficientPrivilege, "the user may not do this", "let the user create a schema in this database"),
    (errors.DiskFull, "the server's disk is full", f"free some space there, then {_AGAIN}"),
    (errors.TooManyConnections, "the server has no connection left", "raise max_connections, or end other programs"),
    (
        errors.ReadOnlySqlTransaction,
        "the server is a replica that cannot be written",
        "name the primary with --db; target_session_attrs=read-write in the address finds it",
    ),
)
# A server that is starting, stopping or recovering, and sessions that it has ended.
_PASSING = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.TooManyConnections)
_TRY_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or the group must be written again; another try may succeed."""
    if isinstance(error, (*_PASSING, *_TRY_AGAIN)):
        return True
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and error.sqlstate is None


def is_unusable(error: BaseException) -> bool:
    """Whether an error is about the server, rather than about what was asked."""
    return is_lost(error) or isinstance(error, (psycopg.OperationalError, errors.ReadOnlySqlTransaction))


def store_error(error: psycopg.Error, where: str) -> StoreError:
    """The error for the user; what the server said never includes the password."""
    for kind, message, hint in _MEANINGS:
        if isinstance(error, kind):
            return StoreError(message, where=where, hint=hint)
    said = next(iter(str(error).strip().splitlines()), "nothing")
    if "password authentication failed" in said or "no password supplied" in said:
        return StoreError("the server refused the password", where=where, hint=_MEANINGS[0][2])
    if 'database "' in said and "does not exist" in said:
        return StoreError("there is no such database on the server", where=where, hint=_MEANINGS[1][2])
    if is_lost(error):
        return StoreError(
            f"the server cannot be reached: {said}", where=where, hint=f"check that it runs, then {_AGAIN}"
        )
    return StoreError(f"the database refused: {said}", where=where, hint="the server's log says more")
