"""The writer of a SQLite file: its groups wait for the locks of other programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

from orchestrator.stores.sql.group_writer import GroupWriter, Outcome, Write, apart_if_refused
from orchestrator.stores.sql.transaction import Known, Transaction
from orchestrator.stores.sqlite.database import SqliteConnection, despite_locks, in_thread, store_error, unusable

__all__ = ["Writer"]

_LOCK_TIMEOUT_WHEN_CLOSING_S = 2.0


class Writer(GroupWriter):
    """Writes through one connection, in its thread."""

    def __init__(self, connection: aiosqlite.Connection, path: Path, *, lock_timeout_s: float) -> None:
        super().__init__(str(path))
        self._connection = connection
        self._path = path
        self._given_lock_timeout_s = self._lock_timeout_s = lock_timeout_s
        self._known = Known()

    async def _commit_group(self, group: Sequence[Write]) -> list[Outcome]:
        try:
            outcomes = await despite_locks(
                lambda: in_thread(self._connection, lambda connection: _apply(connection, self._known, group)),
                self._current_lock_timeout,
            )
        except Exception:
            # The next group would wait for the same lock as long again.
            self._lock_timeout_s = 0.0
            raise
        self._lock_timeout_s = self._given_lock_timeout_s
        return outcomes

    def _current_lock_timeout(self) -> float:
        return min(self._lock_timeout_s, _LOCK_TIMEOUT_WHEN_CLOSING_S) if self._closing else self._lock_timeout_s

    async def _close(self) -> None:
        # The last to close the database empties its log, and a reader that is the last cannot. (A ValueError says
        # that the connection is closed already.)
        with suppress(sqlite3.Error, ValueError):
            await in_thread(self._connection, _empty_log)
        await self._connection.close()

    def _to_user_error(self, failure: Exception) -> Exception:
        if not isinstance(failure, sqlite3.Error):
            return failure
        error = store_error(failure, self._path)
        error.__cause__ = failure
        return error


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _empty_log(connection: sqlite3.Connection) -> None:
    # Without waiting for a lock: nothing is lost if the log stays.
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _apply(connection: SqliteConnection, known: Known, group: Sequence[Write]) -> list[Outcome]:
    return apart_if_refused(partial(_transact, connection, known), group, unusable=unusable)


def _transact(connection: SqliteConnection, known: Known, writes: Sequence[Write]) -> list[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        tx = Transaction(connection, known)
        values = [write.verb(tx, *write.arguments) for write in writes]
        tx.write_sums()
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # does nothing if the error has rolled back already
        raise
    tx.committed()
    return values
