"""The group-committing writer: everything that is queued goes into one transaction, with one sync to disk.

A commit that survives a power cut takes a sync of the disk, which costs more than a hundred small writes. So one task
takes the whole queue, has it written in the connection's thread, and returns to each caller the result of its own
write; meanwhile the queue fills again.

On a fast disk only a handful gather, and most of the work is that of commits. So if several callers wait at a time, a
commit is followed by a short delay, in which more of them gather.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

import aiosqlite

from orchestrator.core.clock import Signal
from orchestrator.core.errors import StoreError
from orchestrator.stores.sqlite.database import despite_locks, in_thread, store_error, unusable
from orchestrator.stores.sqlite.transaction import Known, Transaction

__all__ = ["Writer"]

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_GROUP = 2_000
# A commit costs the CPU of about ten writes: groups of forty instead of seven save a fifth of the CPU of a run. If as
# many as a large group gather in the delay, the run is busy with writes, and twice the delay saves 8 % more.
_COMMIT_DELAY_S = 0.01
_LARGE_GROUP = 24
# A caller that writes alone need not wait for others.
_COMMIT_SIBLINGS = 3
# Notes are written with the next group, or after this time if there is none.
_NOTES_WAIT_S = 1.0
_LOCK_TIMEOUT_WHEN_CLOSING_S = 2.0


@dataclass(slots=True)
class _Write:
    """One verb with its arguments, and the future of the caller that waits for it; no caller waits for a note."""

    verb: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: asyncio.Future[Any] | None = None


_NAME_OF_VERB = attrgetter("verb.__name__")

_Outcome: TypeAlias = tuple[Any, Exception | None]


class Writer:
    """Runs verbs in groups, each in one transaction.

    The write of a caller that is cancelled stays in the queue and is carried out.
    """

    def __init__(self, connection: aiosqlite.Connection, path: Path, *, lock_timeout_s: float) -> None:
        self._connection = connection
        self._path = path
        self._given_lock_timeout_s = self._lock_timeout_s = lock_timeout_s
        self._queue: deque[_Write] = deque()
        self._notes: dict[Hashable, _Write] = {}
        self._notes_due: asyncio.TimerHandle | None = None
        self._wake = Signal()
        self._closing = False
        self._cut_delay = Signal()
        self._known = Known()
        # Asking for the running loop takes a call of the system, in Python 3.11, and writes are many.
        self._loop = asyncio.get_running_loop()
        # A task of its own, outside any cancel scope: what was queued is written whatever happens to its caller.
        self._drain = self._loop.create_task(self._write_queue(), name="store writer")

    def write(self, verb: Callable[[Transaction, *Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        """Run a verb; the future is done when it is on disk, and raises ``StoreError`` if that cannot be."""
        if self._closing:
            raise StoreError("the database is closed already", where=str(self._path))
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(_Write(verb, arguments, done))
        self._wake.set()
        return done

    def note(self, key: Hashable, verb: Callable[[Transaction, *Arguments], None], *arguments: *Arguments) -> None:
        """Run a verb soon, instead of an earlier note with the same key; it is lost in a crash."""
        self._notes[key] = _Write(verb, arguments)
        if self._notes_due is None and not self._closing:
            self._notes_due = self._loop.call_later(_NOTES_WAIT_S, self._wake.set)

    def noted(self, key: Hashable) -> tuple[Any, ...] | None:
        """The arguments of a note that is still to be written."""
        note = self._notes.get(key)
        return None if note is None else note.arguments

    async def aclose(self) -> None:
        """Write what is queued, then close the connection."""
        self._closing = True
        self._cut_delay.set()
        self._wake.set()
        try:
            await self._drain
        finally:
            if self._notes_due is not None:
                self._notes_due.cancel()
            # The last to close the database empties its log, and a reader that is the last cannot. (A ValueError says
            # that the connection is closed already.)
            with suppress(sqlite3.Error, ValueError):
                await in_thread(self._connection, _empty_log)
            await self._connection.close()

    # ── the one task ──────────────────────────────────────────────────────────────────────────────────────────

    async def _write_queue(self) -> None:
        while not self._closing:
            await self._wake.wait()
            while group := self._next_group():
                await self._commit(group)
                if len(group) >= _COMMIT_SIBLINGS and not self._closing:
                    await self._cut_delay.wait(_COMMIT_DELAY_S * (2 if len(group) >= _LARGE_GROUP else 1))

    def _next_group(self) -> list[_Write]:
        group = [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
        if self._notes_due is not None:
            self._notes_due.cancel()
            self._notes_due = None
        # One kind after the other: each finds in the CPU's caches what the one before it left there. Their callers
        # wait at the same time, so any order will do; results are returned in the order of the writes.
        group.sort(key=_NAME_OF_VERB)
        # Notes are older than what is written with them: the end of an attempt must find its latest status.
        group[:0] = self._notes.values()
        self._notes.clear()
        return group

    async def _commit(self, group: list[_Write]) -> None:
        """Write a group, and give each caller the result of its own write."""
        try:
            outcomes = await despite_locks(
                lambda: in_thread(self._connection, lambda connection: _apply(connection, self._known, group)),
                self._current_lock_timeout,
            )
            self._lock_timeout_s = self._given_lock_timeout_s
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must receive it
            outcomes = [(None, error)] * len(group)
            # The next group would wait for the same lock as long again.
            self._lock_timeout_s = 0.0
        for write, (value, failure) in zip(group, outcomes, strict=True):
            done = write.done
            if done is None or done.done():  # a note, or a caller that was cancelled
                continue
            if failure is None:
                done.set_result(value)
            else:
                done.set_exception(self._to_user_error(failure))

    def _current_lock_timeout(self) -> float:
        return min(self._lock_timeout_s, _LOCK_TIMEOUT_WHEN_CLOSING_S) if self._closing else self._lock_timeout_s

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


def _apply(connection: sqlite3.Connection, known: Known, group: Sequence[_Write]) -> list[_Outcome]:
    """Write a group in one transaction; if one write is refused, each in its own, so that only that one fails.

    Raises errors of the database itself: then nothing of the group was written.
    """
    try:
        return [(value, None) for value in _transact(connection, known, group)]
    except Exception as error:
        if unusable(error):
            raise
        if len(group) == 1:
            return [(None, error)]
    outcomes: list[_Outcome] = []
    for write in group:
        try:
            outcomes.append((_transact(connection, known, [write])[0], None))
        except Exception as error:  # noqa: BLE001  # raised for the caller whose write it was
            outcomes.append((None, error))
    return outcomes


def _transact(connection: sqlite3.Connection, known: Known, writes: Sequence[_Write]) -> list[Any]:
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
