"""The group-committing writer: everything that is queued goes into one transaction, with one sync to disk.

A commit that survives a power cut takes a sync of the disk, which costs more than a hundred small writes. So one task
takes the whole queue, has it written in the connection's thread, and returns to each caller the result of its own
write; meanwhile the queue fills again.

On a fast disk only a handful gather, and most of the work is that of commits. So if several callers wait at a time, a
commit is followed by a short delay, in which more of them gather.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

from orchestrator.core.clock import Signal
from orchestrator.core.errors import StoreError
from orchestrator.stores.sql.transaction import Transaction

__all__ = ["GroupWriter", "Outcome", "Write", "apart_if_refused"]

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


@dataclass(slots=True)
class Write:
    """One verb with its arguments, and the future of the caller that waits for it; no caller waits for a note."""

    verb: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: asyncio.Future[Any] | None = None


_NAME_OF_VERB = attrgetter("verb.__name__")

Outcome: TypeAlias = tuple[Any, Exception | None]


class GroupWriter(ABC):
    """Runs verbs in groups, each in one transaction; a driver says how a group is written.

    The write of a caller that is cancelled stays in the queue and is carried out.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._queue: deque[Write] = deque()
        self._notes: dict[Hashable, Write] = {}
        self._notes_due: asyncio.TimerHandle | None = None
        self._wake = Signal()
        self._closing = False
        self._cut_delay = Signal()
        # Asking for the running loop takes a call of the system, in Python 3.11, and writes are many.
        self._loop = asyncio.get_running_loop()
        # A task of its own, outside any cancel scope: what was queued is written whatever happens to its caller.
        self._drain = self._loop.create_task(self._write_queue(), name="store writer")

    @abstractmethod
    async def _commit_group(self, group: Sequence[Write]) -> list[Outcome]:
        """Write a group; raises if nothing of it could be written."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _to_user_error(self, failure: Exception) -> Exception:
        """The error for the caller of a verb that failed."""

    def write(self, verb: Callable[[Transaction, *Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        """Run a verb; the future is done when it is on disk, and raises ``StoreError`` if that cannot be."""
        if self._closing:
            raise StoreError("the database is closed already", where=self._place)
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(Write(verb, arguments, done))
        self._wake.set()
        return done

    def note(self, key: Hashable, verb: Callable[[Transaction, *Arguments], None], *arguments: *Arguments) -> None:
        """Run a verb soon, instead of an earlier note with the same key; it is lost in a crash."""
        self._notes[key] = Write(verb, arguments)
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
            await self._close()

    # ── the one task ──────────────────────────────────────────────────────────────────────────────────────────

    async def _write_queue(self) -> None:
        while not self._closing:
            await self._wake.wait()
            while group := self._next_group():
                await self._commit(group)
                if len(group) >= _COMMIT_SIBLINGS and not self._closing:
                    await self._cut_delay.wait(_COMMIT_DELAY_S * (2 if len(group) >= _LARGE_GROUP else 1))

    def _next_group(self) -> list[Write]:
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

    async def _commit(self, group: list[Write]) -> None:
        """Write a group, and give each caller the result of its own write."""
        try:
            outcomes = await self._commit_group(group)
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must receive it
            outcomes = [(None, error)] * len(group)
        for write, (value, failure) in zip(group, outcomes, strict=True):
            done = write.done
            if done is None or done.done():  # a note, or a caller that was cancelled
                continue
            if failure is None:
                done.set_result(value)
            else:
                done.set_exception(self._to_user_error(failure))


def apart_if_refused(
    transact: Callable[[Sequence[Write]], Sequence[Any]],
    group: Sequence[Write],
    *,
    unusable: Callable[[Exception], bool],
) -> list[Outcome]:
    """Write a group in one transaction; if one write is refused, each in its own, so that only that one fails.

    Raises errors of the database itself, which ``unusable`` knows: then nothing of the group was written.
    """
    try:
        return [(value, None) for value in transact(group)]
    except Exception as error:
        if unusable(error):
            raise
        if len(group) == 1:
            return [(None, error)]
    outcomes: list[Outcome] = []
    for write in group:
        try:
            outcomes.append((transact([write])[0], None))
        except Exception as error:  # noqa: BLE001  # raised for the caller whose write it was
            outcomes.append((None, error))
    return outcomes
