"""Opens a database file, upgrades its schema, and turns SQLite's error codes into words."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import aiosqlite
import anyio

from orchestrator.core.errors import OutdatedDatabase, StoreError
from orchestrator.stores.private_files import make_private
from orchestrator.stores.sqlite.migrations import migrations, statements
from orchestrator.stores.user_errors import NAME_ANOTHER, RUN_A_JOB, empty_database, no_database

__all__ = [
    "SqliteConnection",
    "Synchronous",
    "damaged",
    "despite_locks",
    "in_thread",
    "migrate",
    "open_reader",
    "open_writer",
    "reporting_damage",
    "store_error",
    "unusable",
]

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
T = TypeVar("T")

# Marks the file as ours ("orch"), so that no other program's database is ever changed.
_APPLICATION_ID = 0x6F726368
# STRICT tables; UPSERT, RETURNING and generated columns are older.
_OLDEST_SQLITE = (3, 37, 0)
# How long SQLite itself waits for a lock, in the thread; longer waits are in the writer, where they can be cancelled.
_BUSY_TIMEOUT_MS = 1000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_READER_LOCK_TIMEOUT_S = 10.0


class SqliteConnection(sqlite3.Connection):
    """A connection that also gives rows by the names of their columns."""

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[sqlite3.Row]:
        cursor = self.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(statement, parameters).fetchall()


async def open_writer(path: Path, *, synchronous: Synchronous, lock_timeout_s: float) -> aiosqlite.Connection:
    """The one writing connection; creates the file if absent and upgrades an older schema."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        version = _version(connection, path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                "SQLite's write-ahead log does not work here",
                where=str(path),
                hint="put the database on a local disk: network file systems cannot share its index",
            )
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        # Eight megabytes: the operating system caches the file anyway, and a long run must not grow with it.
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA temp_store = MEMORY")
        if version < len(migrations()):
            migrate(connection, migrations(), path=path)
        # Only now: a migration that rebuilds a table drops the old one, which others refer to.
        connection.execute("PRAGMA foreign_keys = ON")

    make_private(path)
    return await _open(path, str(path), prepare, lock_timeout_s)


async def open_reader(path: Path) -> aiosqlite.Connection:
    """A connection that cannot write; readers and the writer never block each other."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        # Also what a sum over many charges sorts in memory before it takes a temporary file.
        connection.execute("PRAGMA cache_size = -8000")
        version = _version(connection, path)
        if version == 0:
            raise empty_database(str(path))
        if version < len(migrations()):
            raise OutdatedDatabase(
                f"the database has schema version {version}, this program reads version {len(migrations())}",
                where=str(path),
                hint=f"make a copy, then upgrade it with any command that writes, such as: {RUN_A_JOB}",
            )

    return await _open(path, _existing(path), prepare, _READER_LOCK_TIMEOUT_S)


def _existing(path: Path) -> str:
    if not path.exists():
        raise no_database(str(path))
    if path.is_dir():
        raise StoreError("this is a folder", where=str(path), hint=NAME_ANOTHER)
    return f"{path.absolute().as_uri()}?mode=ro"


async def _open(
    path: Path, target: str, prepare: Callable[[sqlite3.Connection], None], lock_timeout_s: float
) -> aiosqlite.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"Python's SQLite is version {sqlite3.sqlite_version}; 3.37 or newer is needed",
            hint="use a newer Python: those from python.org and uv bring their own SQLite",
        )
    connecting = aiosqlite.connect(
        target,
        isolation_level=None,
        cached_statements=256,
        uri=target.startswith("file:"),
        factory=SqliteConnection,
    )
    # Python waits at its exit for threads that are not daemons: an exit that could not close would hang.
    connecting._thread.daemon = True  # noqa: SLF001
    try:
        connection = await connecting
    except BaseException as error:
        # aiosqlite stops the thread without waiting for it: it would report to an event loop that is gone by then.
        connecting._thread.join()  # noqa: SLF001
        if isinstance(error, sqlite3.Error):
            raise store_error(error, path) from error
        raise
    try:
        # Another process may be creating the same file: SQLite itself does not wait for that lock.
        await despite_locks(lambda: in_thread(connection, prepare), lambda: lock_timeout_s)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await connection.close()
        if isinstance(error, sqlite3.Error):
            raise store_error(error, path) from error
        if isinstance(error, _OF_DAMAGE):
            raise damaged(path) from error
        raise
    return connection


async def in_thread(connection: aiosqlite.Connection, function: Callable[[SqliteConnection], T]) -> T:
    """Run a function of many statements in the connection's own thread, with one hop there and back.

    aiosqlite's public methods hop once a statement, which costs more than most statements here. It runs functions
    by this private method, so its version is pinned.
    """
    execute: Callable[[Callable[[], T]], Awaitable[T]] = connection._execute  # noqa: SLF001
    return await execute(lambda: function(cast(SqliteConnection, connection._conn)))  # noqa: SLF001


async def despite_locks(write: Callable[[], Awaitable[T]], timeout_s: Callable[[], float]) -> T:
    """Repeat a write that another program's lock prevents, at growing intervals, until a timeout.

    ``timeout_s`` is called each time, because the timeout may be cut short.
    """
    began = time.monotonic()
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            return await write()
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() - began >= timeout_s():
                raise
        await anyio.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def migrate(connection: sqlite3.Connection, scripts: Sequence[str], *, path: Path) -> None:
    """Apply the scripts that the database has not seen, each in a transaction of its own."""
    for number, script in enumerate(scripts, start=1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read inside the transaction: another process may be doing the same.
            if _version(connection, path, newest=len(scripts)) < number:
                for statement in statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise


def _version(connection: sqlite3.Connection, path: Path, *, newest: int | None = None) -> int:
    """The schema's version; raises ``StoreError`` for a newer one and for a database that is not ours."""
    newest = newest or len(migrations())
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        if version or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreError("this is a database of another program", where=str(path), hint=NAME_ANOTHER)
    elif version > newest:
        raise StoreError(
            f"the database has schema version {version}, this program knows versions up to {newest}",
            where=str(path),
            hint=f"a newer orchestrator wrote it: upgrade this one, or {NAME_ANOTHER}",
        )
    return version


# ── what SQLite says ──────────────────────────────────────────────────────────────────────────────────────────

_RESTORE = "restore a copy, or recover what is left: sqlite3 FILE .recover | sqlite3 NEWFILE; and check the disk"
_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "another program keeps the database locked",
        "close what has it open for writing (a sqlite3 shell, a backup), then run the same command again",
    ),
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "free some space, then run the same command again: all that was reported as done is safe",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database cannot be written",
        f"check the permissions of the file and of its folder, or {NAME_ANOTHER}",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened",
        f"check that its folder exists and may be written, or {NAME_ANOTHER}",
    ),
    sqlite3.SQLITE_NOTADB: ("this is not a database", NAME_ANOTHER),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        _RESTORE,
    ),
    sqlite3.SQLITE_IOERR: (
        "reading or writing the database failed",
        "check the disk; all that was reported as done is in the file",
    ),
}
# What reading a value raises that is not what this program writes there.
_OF_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, EOFError, zlib.error)
_UNUSABLE = frozenset({*_MEANINGS, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL})


def _primary_code(error: BaseException) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def unusable(error: BaseException) -> bool:
    """Whether an error is about the file, the disk or a lock, rather than about what was asked."""
    return _primary_code(error) in _UNUSABLE


def _is_locked(error: BaseException) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The error for the user."""
    code = _primary_code(error)
    if code is None and isinstance(error, sqlite3.OperationalError):
        # Python's own: a text is not UTF-8. Its words would show the text.
        return damaged(path)
    message, hint = _MEANINGS.get(code or 0, (f"the database refused: {error}", _RESTORE))
    return StoreError(message, where=str(path), hint=hint)


def damaged(path: Path) -> StoreError:
    """The error for a database that holds what no program wrote."""
    message, hint = _MEANINGS[sqlite3.SQLITE_CORRUPT]
    return StoreError(message, where=str(path), hint=hint)


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Raises ``StoreError`` if what is stored cannot be understood."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except _OF_DAMAGE as error:
        raise damaged(path) from error
