"""One process per run or shard: a lock that the kernel drops when its holder dies, however it dies.

The locks of all runs are in one file beside the database, ``<database>.lock``: one byte each, far behind the lines of
text that name the processes. No clock is involved, so a run can be resumed at once after a ``kill -9``.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.core.errors import RunBusy, StoreError
from orchestrator.stores.private_files import PRIVATE
from orchestrator.stores.shards import MOST_SHARDS
from orchestrator.stores.user_errors import dataset_locked, run_locked, shard_locked

__all__ = ["DatasetLock", "RunLock", "ShardLock", "held_lock_file", "is_locked"]

# Behind all text.
_LOCKS_AT = 1 << 40
_LINE = 24
# The shards of each run have a range of bytes, behind those of the runs; the first one of it is no shard.
_SHARDS_AT = 1 << 41
# ``is_locked`` holds a lock for an instant, so one refusal is not yet an answer.
_TRIES, _BETWEEN_S = 5, 0.02

# POSIX locks belong to the process: closing any handle of a file drops all that the process has there, and taking one
# twice succeeds. Hence one handle per file, open while a lock is held, and a record of what this process holds.
_guard = threading.Lock()
_handles: dict[Path, int] = {}
_held: set[tuple[Path, int]] = set()


class RunLock:
    """Holds a run against all other processes, and against other callers in this one.

    Entering it raises ``RunBusy`` if the run is locked, and ``StoreError`` if the lock file cannot be written.
    """

    _tries = _TRIES
    # How many bytes it locks.
    _bytes = 1

    def __init__(self, database: Path, run_id: int, name: str) -> None:
        self._file = _lock_file(database)
        self._run_id = run_id
        self._name = name

    def __enter__(self) -> Self:
        with _guard:
            if self._is_held_here():
                raise self._busy("this process")
            handle = _handles.get(self._file)
            if handle is None:
                handle = self._open()
            try:
                self._take(handle)
            except BaseException:
                if self._file not in _handles:
                    os.close(handle)
                raise
            _handles[self._file] = handle
            _held.add((self._file, self._run_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _guard:
            _held.discard((self._file, self._run_id))
            _unlock(_handles[self._file], self._run_id, self._bytes)
            if not any(file == self._file for file, _ in _held):
                os.close(_handles.pop(self._file))

    def _is_held_here(self) -> bool:
        return (self._file, self._run_id) in _held

    def _open(self) -> int:
        try:
            return os.open(self._file, os.O_RDWR | os.O_CREAT, PRIVATE)
        except OSError as error:
            raise StoreError(
                f"the lock file cannot be written: {error.strerror}",
                where=str(self._file),
                hint="check the permissions of the file and of its folder",
            ) from error

    def _take(self, handle: int) -> None:
        for tried in range(self._tries):
            if tried:
                time.sleep(_BETWEEN_S)
            try:
                _lock(handle, self._run_id, fcntl.LOCK_EX, self._bytes)
            except OSError:
                continue
            self._check_parts(handle)
            self._note_process(handle)
            return
        raise self._busy(self._holder(handle))

    def _check_parts(self, handle: int) -> None:
        """Refuse a run while processes are left that work on its shards."""
        here = any(file == self._file and key in _shards_of(self._run_id) for file, key in _held)
        if here or _is_taken(handle, _shards_of(self._run_id).start, MOST_SHARDS):
            _unlock(handle, self._run_id)
            raise shard_locked(self._name)

    def _note_process(self, handle: int) -> None:
        os.lseek(handle, (self._run_id - 1) * _LINE, os.SEEK_SET)
        os.write(handle, f"{self._run_id} {os.getpid()}".ljust(_LINE - 1).encode() + b"\n")

    def _holder(self, handle: int) -> str:
        os.lseek(handle, (self._run_id - 1) * _LINE, os.SEEK_SET)
        holder = os.read(handle, _LINE).split()
        return f"another process ({int(holder[1])})" if len(holder) == 2 else "another process"

    def _busy(self, holder: str) -> RunBusy:
        return run_locked(self._name, holder=holder)


class DatasetLock(RunLock):
    """Holds a dataset in the same way: its byte is before those of the runs, and no text names its process."""

    def __init__(self, database: Path, dataset_id: int, name: str) -> None:
        super().__init__(database, -dataset_id, name)

    def _check_parts(self, handle: int) -> None:
        pass

    def _note_process(self, handle: int) -> None:
        pass

    def _holder(self, handle: int) -> str:  # noqa: ARG002
        return "another process"

    def _busy(self, holder: str) -> RunBusy:
        return dataset_locked(self._name, holder=holder)


class ShardLock(DatasetLock):
    """Holds a shard of a run in the same way, or all of them if it is given no number."""

    # Another shard is taken instead: there is nothing to wait for.
    _tries = 1

    def __init__(self, database: Path, run_id: int, number: int | None, name: str) -> None:
        self._all = _shards_of(run_id)
        RunLock.__init__(self, database, self._all.start + (number or 0), name)
        if number is None:
            self._tries = _TRIES
            self._bytes = MOST_SHARDS
        elif not 0 < number < MOST_SHARDS:
            raise ValueError(f"a run has at most {MOST_SHARDS - 1} shards")

    def _is_held_here(self) -> bool:
        here = [key for file, key in _held if file == self._file and key in self._all]
        # The lock of all of them is noted by the first byte, which is no shard.
        return bool(here) if self._bytes > 1 else self._run_id in here or self._all.start in here

    def _busy(self, holder: str) -> RunBusy:  # noqa: ARG002
        return shard_locked(self._name)


def is_locked(database: Path, run_id: int) -> bool:
    """Whether a process holds the lock of a run now."""
    path = _lock_file(database)
    with _guard:
        if (path, run_id) in _held:
            return True
        handle = _handles.get(path)
        if handle is not None:
            return _is_taken(handle, run_id)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return False  # no run of this database was ever locked
        try:
            return _is_taken(handle, run_id)
        finally:
            os.close(handle)


def held_lock_file(database: Path) -> tuple[Path, os.stat_result] | None:
    """The path of the lock file, and the file that this process has open; None if it holds no lock."""
    path = _lock_file(database)
    with _guard:
        handle = _handles.get(path)
        return None if handle is None else (path, os.fstat(handle))


def _shards_of(run_id: int) -> range:
    first = _SHARDS_AT + run_id * MOST_SHARDS
    return range(first, first + MOST_SHARDS)


def _is_taken(handle: int, key: int, count: int = 1) -> bool:
    try:
        _lock(handle, key, fcntl.LOCK_SH, count)
    except OSError:
        return True
    _unlock(handle, key, count)
    return False


def _lock(handle: int, key: int, kind: int, count: int = 1) -> None:
    fcntl.lockf(handle, kind | fcntl.LOCK_NB, count, _LOCKS_AT + key)


def _unlock(handle: int, key: int, count: int = 1) -> None:
    fcntl.lockf(handle, fcntl.LOCK_UN, count, _LOCKS_AT + key)


def _lock_file(database: Path) -> Path:
    """Beside the database itself, so that every path to it leads to the same lock."""
    path = database.resolve()
    return path.with_name(path.name + ".lock")
