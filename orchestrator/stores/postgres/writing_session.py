"""The writing session: one connection in a thread of its own, which outlives a restart of the server.

Locks belong to the session, so a write is committed only while they are held. When the connection is lost they are
taken again if no other session had them meanwhile, and the group that was being written is written again, unless its
commit had arrived.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from orchestrator.core.errors import StoreError
from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.connection import PostgresConnection, holder_name
from orchestrator.stores.postgres.database import is_lost, open_connection, store_error

__all__ = ["RUN_LOCKS", "Session"]

T = TypeVar("T")

# The first number of an advisory lock of a run or a dataset; the second is its key.
RUN_LOCKS = 0x6F72_6368
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_OPEN = """INSERT INTO writer (uid, last_group, session) VALUES ($1, 0, pg_backend_pid())"""
_MARK = "UPDATE writer SET last_group = $2 WHERE uid = $1"
_FORGET = """DELETE FROM writer WHERE opened_at < now() - interval '1 day'
AND NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = session)"""
_TAKE = """INSERT INTO holder (key, epoch, name) VALUES ($1, 1, $2)
ON CONFLICT (key) DO UPDATE SET epoch = holder.epoch + 1, name = excluded.name RETURNING epoch"""


class Session:
    """One connection of a writer, and the locks that it holds; used by one thread at a time."""

    def __init__(self, url: str, *, server_timeout_s: float) -> None:
        self._url = url
        self._server_timeout_s = server_timeout_s
        self._uid = secrets.token_hex(16)
        self._groups = 0
        self._held: dict[int, int] = {}
        self._ended: StoreError | None = None
        self.closing = threading.Event()
        self.connection = open_connection(url, writes=True)
        self.connection.raw.execute(_FORGET)
        self.connection.raw.execute(_OPEN, [self._uid])

    # ── groups ────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, write: Callable[[PostgresConnection], T], finish: Callable[[T], None]) -> T:
        """Run a function in a transaction; if the connection is lost, again on another one.

        ``finish`` is run before the commit, and sent with it in one trip: it reads no results.
        """
        self._groups += 1
        began: float | None = None
        while True:
            if self._ended is not None:
                raise self._ended
            result: list[T] = []
            try:
                self.connection.execute("BEGIN")
                result.append(write(self.connection))
                with self.connection.raw.pipeline():
                    finish(result[0])
                    self.connection.raw.execute(_MARK, [self._uid, self._groups], prepare=True)
                    self.connection.raw.execute("COMMIT", prepare=False)
                return result[0]
            except psycopg.Error as error:
                self._undo()
                if not is_lost(error):
                    raise
                began = began or time.monotonic()
                self._recover(error, began)
                if result and self._arrived():
                    return result[0]
            except BaseException:
                self._undo()
                raise

    def close(self) -> None:
        try:
            if not self.connection.raw.closed:
                self.connection.raw.execute("DELETE FROM writer WHERE uid = $1", [self._uid])
        except psycopg.Error:
            pass
        finally:
            self.connection.raw.close()

    def _undo(self) -> None:
        try:
            if not self.connection.raw.closed:
                self.connection.raw.rollback()
        except psycopg.Error:
            self.connection.raw.close()

    def _arrived(self) -> bool:
        """Whether the commit of the latest group arrived before the connection was lost."""
        found = self.connection.raw.execute("SELECT last_group FROM writer WHERE uid = $1", [self._uid]).fetchone()
        return found is not None and found[0] == self._groups

    def _recover(self, error: psycopg.Error, began: float) -> None:
        """Connect again and take the locks again; raises ``StoreError`` if that cannot be."""
        wait_s = _FIRST_WAIT_S
        while self.connection.raw.closed or self._held:
            try:
                if self.connection.raw.closed:
                    self.connection = open_connection(self._url, writes=True)
                if self._take_again():
                    return
            except (StoreError, psycopg.Error) as again:
                cause = again.__cause__ if isinstance(again, StoreError) else again
                if cause is None or not is_lost(cause):
                    raise
                error = cause if isinstance(cause, psycopg.Error) else error
            if self.closing.is_set() or time.monotonic() - began > self._server_timeout_s:
                raise store_error(error, shown_address(self._url)) from error
            self.closing.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    # ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, key: int) -> bool:
        """Take the lock of a run; False if another session has it."""
        if not self._try(key):
            return False
        [(epoch,)] = self.connection.raw.execute(_TAKE, [key, holder_name()]).fetchall()
        self._held[key] = epoch
        return True

    def leave(self, key: int) -> None:
        """Give a lock back; it is gone already if the connection is."""
        if self._held.pop(key, None) is not None and not self.connection.raw.closed:
            self.connection.raw.execute("SELECT pg_advisory_unlock($1::int, $2::int)", [RUN_LOCKS, key])

    def ask(self, query: str, parameters: list[Any]) -> list[Any]:
        """What a query finds, outside of any transaction."""
        return self.connection.raw.execute(query, parameters).fetchall()

    def _try(self, key: int) -> bool:
        found = self.connection.raw.execute(
            "SELECT pg_try_advisory_lock($1::int, $2::int)", [RUN_LOCKS, key]
        ).fetchone()
        return bool(found and found[0])

    def _take_again(self) -> bool:
        """Take the locks after a loss; False if the old session still has one."""
        for key, epoch in self._held.items():
            held = self._try(key)
            found = self.connection.raw.execute("SELECT epoch FROM holder WHERE key = $1", [key]).fetchone()
            if found is None or found[0] != epoch:
                self._ended = StoreError(
                    "the connection was lost, and another process has taken the run over; nothing more is sent",
                    where=shown_address(self._url),
                    hint="see what it does with: orchestrator status",
                )
                raise self._ended
            if not held:
                return False
        return True
