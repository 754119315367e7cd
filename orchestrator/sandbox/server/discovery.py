"""One sandbox for all processes that use one state file: it publishes its address beside the file.

A process that uses a published sandbox holds a shared lock on the file with its address, and the sandbox ends only
when it gets that lock alone. So it outlives the run that started it for as long as another run uses it.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, field
from pathlib import Path
from typing import IO, Self

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["PublishedAddress", "SandboxEndpoint", "SharedSandbox", "is_locked", "use_published"]


@fast_dataclass(kw_only=False)
class SandboxEndpoint:
    """The address of an embedded sandbox, and the key that it accepts."""

    base_url: str
    api_key: str = field(repr=False)
    settings: str
    """A hash: two sandboxes with the same one behave the same."""
    pid: int = field(compare=False)


class PublishedAddress:
    """The sandbox's side: address and key in a file that only this user can read."""

    def __init__(self, endpoint: SandboxEndpoint, state_file: Path) -> None:
        self._path = _path(state_file)
        partial = self._path.with_name(f"{self._path.name}.new")
        partial.unlink(missing_ok=True)
        self._file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w")
        json.dump(asdict(endpoint), self._file)
        self._file.flush()
        # Renamed, so that a reader finds all of it or nothing.
        partial.replace(self._path)

    def withdraw(self) -> bool:
        """Take the address back, unless a process uses it; returns whether it is withdrawn."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._path.unlink(missing_ok=True)
        self._file.close()
        return True


class SharedSandbox:
    """The user's side: a sandbox that another process started, kept alive until this is closed."""

    def __init__(self, endpoint: SandboxEndpoint, file: IO[str]) -> None:
        self.endpoint = endpoint
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def use_published(state_file: Path) -> SharedSandbox | None:
    """The sandbox that works on a state file; None if there is none, or it is about to end."""
    path = _path(state_file)
    try:
        file = path.open()
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        endpoint = SandboxEndpoint(**json.load(file))
        # The file of a sandbox that was killed remains, and one that was just withdrawn is still open here.
        if is_locked(state_file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return SharedSandbox(endpoint, file)
    except (OSError, ValueError, TypeError):
        pass
    file.close()
    return None


def is_locked(state_file: Path) -> bool:
    """Whether a sandbox works on a state file."""
    with suppress(OSError), state_file.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _path(state_file: Path) -> Path:
    return state_file.with_name(f"{state_file.name}.address")
