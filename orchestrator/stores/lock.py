"""One process a run: a lock that the kernel drops when its holder dies, however it dies.

The locks of all runs are in one file beside the database, ``<database>.lock``: one byte each, far behind the lines of
text that name the processes. No clock is involved, so a run can be taken up at once after a ``kill -9``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.core.errors import RunBusy, StoreError

__all__ = ["RunLock", "is_held"]

# Windows lets nobody read a locked byte, so the locks lie where no text will ever be.
_LOCKS_AT = 1 << 40
_LINE = 24
# ``is_held`` holds a lock for an instant, so one refusal is not yet an answer.
_TRIES, _BETWEEN_S = 5, 0.02

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int, place: int, *, shared: bool) -> None:  # noqa: ARG001  # there is no shared lock
        os.lseek(file, place, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

    def _unlock(file: int, place: int) -> None:
        os.lseek(file, place, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: int, place: int, *, shared: bool) -> None:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, place)

    def _unlock(file: int, place: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


# POSIX locks belong to the process: closing any handle of a file drops all that the process has there, and taking one
# twice succeeds. Hence one handle a file, open while a lock is held, and a record of what is held within the process.
_guard = threading.Lock()
_handles: dict[Path, int] = {}
_held: set[tuple[Path, int]] = set()


class RunLock:
    """Keeps every other process, and everybody else in this one, from working on a run.

    Entering it raises ``RunBusy`` where somebody does, and ``StoreError`` where the lock file cannot be written.
    """

    def __init__(self, database: Path, run_id: int, name: str) -> None:
        self._file = _lock_file(database)
        self._run_id = run_id
        self._name = name

    def __enter__(self) -> Self:
        with _guard:
            if (self._file, self._run_id) in _held:
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
            _unlock(_handles[self._file], _LOCKS_AT + self._run_id)
            if not any(file == self._file for file, _ in _held):
                os.close(_handles.pop(self._file))

    def _open(self) -> int:
        try:
            return os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"the lock file cannot be written: {error.strerror}",
                where=str(self._file),
                hint="check the permissions of the file and of its folder",
            ) from error

    def _take(self, handle: int) -> None:
        for _ in range(_TRIES):
            try:
                _lock(handle, _LOCKS_AT + self._run_id, shared=False)
            except OSError:
                time.sleep(_BETWEEN_S)
                continue
            os.lseek(handle, (self._run_id - 1) * _LINE, os.SEEK_SET)
            os.write(handle, f"{self._run_id} {os.getpid()}".ljust(_LINE - 1).encode() + b"\n")
            return
        os.lseek(handle, (self._run_id - 1) * _LINE, os.SEEK_SET)
        holder = os.read(handle, _LINE).split()
        raise self._busy(f"another process ({int(holder[1])})" if len(holder) == 2 else "another process")

    def _busy(self, holder: str) -> RunBusy:
        return RunBusy(
            f"{holder} works on run {self._name!r}",
            hint=f"see how far it is: orchestrator status {self._name}",
        )


def is_held(database: Path, run_id: int) -> bool:
    """Whether a process works on a run at this moment."""
    path = _lock_file(database)
    with _guard:
        if (path, run_id) in _held:
            return True
        handle = _handles.get(path)
        if handle is not None:
            return _is_locked(handle, run_id)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return False  # nobody ever worked on a run here
        try:
            return _is_locked(handle, run_id)
        finally:
            os.close(handle)


def _is_locked(handle: int, run_id: int) -> bool:
    try:
        _lock(handle, _LOCKS_AT + run_id, shared=True)
    except OSError:
        return True
    _unlock(handle, _LOCKS_AT + run_id)
    return False


def _lock_file(database: Path) -> Path:
    """Beside the database itself, so that every path to it leads to the same lock."""
    path = database.resolve()
    return path.with_name(path.name + ".lock")
