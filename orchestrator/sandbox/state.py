"""The sandbox's memory in SQLite, in a file or not: responses, idempotency keys and counts.

It runs on the event loop's own thread: a look by key takes about ten microseconds, a commit of all that waits about
fifty, and handing either to another thread costs more. What a reply says is committed before the reply leaves, so
it survives the death of the process (not of the machine: ``synchronous=NORMAL``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import fields
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from orchestrator.core.errors import StoreError
from orchestrator.core.model import Usage
from orchestrator.sandbox.record import Record

__all__ = ["State"]

# Marks a file as ours, so that somebody's own database is never written to by mistake ("SBOX").
_APPLICATION_ID = 0x53424F58
_VERSION = 1
_COUNTS_WAIT_S = 0.05
_CHUNK = 500

_USAGE = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_BODIES = ("echo", "output")
_PLAIN = tuple(field.name for field in fields(Record) if field.name not in {"usage", *_BODIES})
_COLUMNS = (*_PLAIN, *_USAGE)


# The names that are put together here are this module's own, never a client's.
_SELECTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
_INSERT = f"INSERT INTO response ({_SELECTED}, echo, output, input) VALUES ({_VALUES}, :echo, :output, :input)"  # noqa: S608
_SELECT = f"SELECT {_SELECTED}, echo, output FROM response"  # noqa: S608
_SELECT_LIGHT = (
    f"SELECT {_SELECTED}, x'' AS echo, x'' AS output FROM response "  # noqa: S608
    "WHERE ordinal > ? ORDER BY ordinal LIMIT ?"
)


class State:
    """Opened once a process; a second process on the same file waits ``lock_wait_s`` for the first to end.

    Without a file at most ``keep_bodies`` responses keep their text; older ones count as deleted.
    """

    def __init__(self, path: Path | None = None, *, keep_bodies: int = 20_000, lock_wait_s: float = 30) -> None:
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
        self._bodies: deque[int] | None = deque(maxlen=keep_bodies) if path is None else None

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
        """Count one more of something; on disk with the next commit, or a moment later."""
        self.counts[name] += 1
        self._uncommitted_counts.add(name)
        if self._commit is None and self._counts_timer is None:
            self._counts_timer = asyncio.get_running_loop().call_later(_COUNTS_WAIT_S, self._commit_now)
        return self.counts[name]

    def add(self, record: Record, input_json: bytes) -> None:
        """Remember a new response and the JSON of its input."""
        values = {name: getattr(record, name) for name in (*_PLAIN, *_BODIES)}
        values |= {name: getattr(record.usage, name, None) for name in _USAGE}
        self._write(_INSERT, values | {"input": input_json})
        if self._bodies is not None:
            if len(self._bodies) == self._bodies.maxlen:
                self._forget(self._bodies[0], record.created_at)
            self._bodies.append(record.ordinal)

    def get(self, response_id: str) -> Record | None:
        """The response of that id, deleted ones included."""
        return self._one(f"{_SELECT} WHERE id = ?", response_id)

    def find_by_idempotency_key(self, key: str) -> Record | None:
        """The first response created under a key."""
        return self._one(f"{_SELECT} WHERE idempotency_key = ? ORDER BY ordinal LIMIT 1", key)

    def input_of(self, response_id: str) -> bytes:
        """The JSON of the input that the response was created with."""
        row = self._db.execute("SELECT input FROM response WHERE id = ?", (response_id,)).fetchone()
        return bytes(row["input"])

    def ask_cancel(self, record: Record, now: float) -> None:
        self._write("UPDATE response SET cancel_asked_at = ? WHERE id = ?", (now, record.id))

    def delete(self, record: Record, now: float) -> None:
        self._write("UPDATE response SET deleted_at = ? WHERE id = ?", (now, record.id))

    def deliver(self, record: Record, status: str) -> None:
        """Note that a client is told this final status."""
        self._write("UPDATE response SET delivered = ? WHERE id = ?", (status, record.id))

    async def records(self) -> AsyncIterator[Record]:
        """All responses in the order of their creation, without their bodies; the loop runs on in between."""
        ordinal = -1
        while rows := self._db.execute(_SELECT_LIGHT, (ordinal, _CHUNK)).fetchall():
            for row in rows:
                yield _record(row)
            ordinal = rows[-1]["ordinal"]
            await asyncio.sleep(0)

    async def committed(self) -> None:
        """Wait until everything written so far is on disk; raises ``StoreError`` if it cannot be."""
        if self._commit is not None:
            await asyncio.shield(self._commit)

    def _one(self, query: str, key: str) -> Record | None:
        row = self._db.execute(query, (key,)).fetchone()
        return _record(row) if row else None

    def _forget(self, ordinal: int, now: float) -> None:
        self._write(
            "UPDATE response SET deleted_at = coalesce(deleted_at, ?), echo = x'', output = x'', input = x'' "
            "WHERE ordinal = ?",
            (now, ordinal),
        )

    def _write(self, statement: str, values: Any) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.execute(statement, values)
        if self._commit is None:
            loop = asyncio.get_running_loop()
            self._commit = loop.create_future()
            # Runs after every call that is ready now, so that all of them share one commit.
            loop.call_soon(self._commit_now)

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


def _record(row: sqlite3.Row) -> Record:
    values = dict(row)
    tokens = {name: values.pop(name) for name in _USAGE}
    usage = None
    if tokens["input_tokens"] is not None:
        usage = Usage(**tokens, total_tokens=tokens["input_tokens"] + tokens["output_tokens"])
    flags = {name: bool(values[name]) for name in ("background", "stored", "usable")}
    return Record(**values | flags | {"usage": usage})


def _lock(path: Path, wait_s: float) -> IO[bytes]:
    """Hold the file for this process; the system lets go of it when the process dies, however it dies."""
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
                raise StoreError(
                    f"another sandbox works on the state file {path}", hint="stop it, or choose another --state"
                ) from None
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
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
        db.executescript(resources.files(__package__).joinpath("schema.sql").read_text())
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
    if tables and owner != (_APPLICATION_ID, _VERSION):
        raise StoreError(
            f"{path} is not a state file of this version's sandbox", hint="choose another --state, or remove the file"
        )
