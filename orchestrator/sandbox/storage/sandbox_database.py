"""The sandbox's SQLite database, in a file or in memory.

It runs on the event loop's own thread: a lookup by key takes about ten microseconds, a commit of all pending writes
about fifty, and handing either to another thread costs more. What a reply says is committed before the reply is sent,
so it survives the death of the process (but not a power cut: ``synchronous=NORMAL``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import time
from collections import Counter
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

from orchestrator.core.errors import StoreError
from orchestrator.stores.private_files import make_private

__all__ = ["SandboxDatabase", "StateFileBusy", "Values"]

# The parameters of a statement, by position or by name.
Values: TypeAlias = tuple[Any, ...] | dict[str, Any]

_SCHEMA = resources.files(__package__).joinpath("schema.sql").read_text()
# Marks a file as the sandbox's ("SBOX"), so that it overwrites no other database by mistake, and says which tables it
# has. Change the second number with the tables: files of other versions are then refused, not migrated.
_OWNER = (0x53424F58, 1_602_336_737)
_COUNTS_WAIT_S = 0.05


class StateFileBusy(StoreError):
    """Another sandbox works on the state file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another sandbox works on the state file {path}",
            hint="stop that sandbox, or choose another database (--db) or state file (sandbox --state)",
        )


class SandboxDatabase:
    """One process opens a file at a time; a second one waits ``lock_wait_s`` for the first to end."""

    def __init__(self, path: Path | None = None, *, lock_wait_s: float = 30) -> None:
        self.in_memory = path is None
        self._lock = _lock(path, lock_wait_s) if path else None
        try:
            self._db = _open(path)
        except BaseException:
            if self._lock:
                self._lock.close()
            raise
        self.counts: Counter[str] = Counter(dict(self._db.execute("SELECT name, value FROM counter")))
        self._uncommitted_counts: set[str] = set()
        self._commit: asyncio.Future[None] | None = None
        self._counts_timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counts_timer:
            self._counts_timer.cancel()
        with contextlib.closing(self._db):
            self._commit_now()
        if self._lock:
            self._lock.close()

    def count(self, name: str) -> int:
        """Adds one to a counter and returns it; it is on disk with the next commit, at most 0.05 s later."""
        self._set_count(name, self.counts[name] + 1)
        return self.counts[name]

    def raise_count(self, name: str, value: int) -> None:
        """Sets a counter to a value if that is more than it was."""
        self._set_count(name, max(self.counts[name], value))

    def _set_count(self, name: str, value: int) -> None:
        self.counts[name] = value
        self._uncommitted_counts.add(name)
        if self._commit is None and self._counts_timer is None:
            self._counts_timer = asyncio.get_running_loop().call_later(_COUNTS_WAIT_S, self._commit_now)

    def rows(self, query: str, values: Values = ()) -> list[sqlite3.Row]:
        """The rows of a query, including uncommitted ones."""
        return self._db.execute(query, values).fetchall()

    def row(self, query: str, values: Values = ()) -> sqlite3.Row | None:
        """The first row of a query."""
        row: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return row

    def write(self, statement: str, values: Values) -> None:
        """Executes a statement; what it writes is on disk when ``committed`` returns."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.execute(statement, values)
        if self._commit is None:
            loop = asyncio.get_running_loop()
            self._commit = loop.create_future()
            # Runs after every call that is ready now, so that all of them share one commit.
            loop.call_soon(self._commit_now)

    async def committed(self) -> None:
        """Waits until everything written so far is on disk; raises ``StoreError`` if that fails."""
        if self._commit is not None:
            await asyncio.shield(self._commit)

    def _commit_now(self) -> None:
        waiting, self._commit = self._commit, None
        if self._counts_timer:
            self._counts_timer.cancel()
            self._counts_timer = None
        try:
            self._commit_counts()
            if self._db.in_transaction:
                self._db.execute("COMMIT")
            self._uncommitted_counts.clear()
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if waiting and not waiting.done():
                waiting.set_exception(StoreError(f"the sandbox's state cannot be written: {error}"))
        else:
            if waiting and not waiting.done():
                waiting.set_result(None)

    def _commit_counts(self) -> None:
        if not self._uncommitted_counts:
            return
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, self.counts[name]) for name in self._uncommitted_counts],
        )


def _lock(path: Path, wait_s: float) -> IO[bytes]:
    """Locks the file for this process; the system releases the lock however the process ends."""
    make_private(path)
    try:
        file = path.open("ab")
    except OSError as error:
        raise StoreError(
            f"cannot open the state file {path}: {error.strerror}", hint="choose another --state"
        ) from error
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                file.close()
                raise StateFileBusy(path) from None
            time.sleep(0.05)
        else:
            return file


def _open(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
        _check_owner(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute(f"PRAGMA application_id = {_OWNER[0]}")
        db.execute(f"PRAGMA user_version = {_OWNER[1]}")
        db.executescript(_SCHEMA)
    except sqlite3.Error as error:
        db.close()
        raise StoreError(f"the state file {path} cannot be used: {error}", hint="choose another --state") from error
    except StoreError:
        db.close()
        raise
    return db


def _check_owner(db: sqlite3.Connection, path: Path | None) -> None:
    tables: int = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
    if tables and owner != _OWNER:
        raise StoreError(
            f"{path} is not a state file of this version's sandbox", hint="choose another --state, or remove the file"
        )
