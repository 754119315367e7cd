"""Whether the files that are open are still those that the paths lead to.

A file that is moved or deleted stays open, and everything that is written goes where no other process will find it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from orchestrator.core.errors import StoreError
from orchestrator.stores.sqlite.run_lock import held_lock_file

__all__ = ["OpenFiles"]

_Identity: TypeAlias = tuple[int, int]


class OpenFiles:
    """The database and its log, as they were when the database was opened."""

    def __init__(self, database: Path) -> None:
        self._database = database
        real = Path(os.path.realpath(database))
        found = {path: _identity(path) for path in (database, real.with_name(f"{real.name}-wal"))}
        self._opened = {path: identity for path, identity in found.items() if identity is not None}

    def check(self) -> None:
        """Raise ``StoreError`` if the database, its log or its lock file was moved, deleted or replaced."""
        for path, identity in self._opened.items():
            if _identity(path) != identity:
                raise self._gone(path)
        held = held_lock_file(self._database)
        if held is not None and _identity(held[0]) != (held[1].st_dev, held[1].st_ino):
            raise self._gone(held[0])

    def _gone(self, path: Path) -> StoreError:
        what = "the database" if path == self._database else "a file of the database"
        return StoreError(
            f"{what} was moved, deleted or replaced while it was in use; nothing more is sent",
            where=str(path),
            hint="if it was moved, put it back with the files beside it, then run the same command: it has what was "
            "stored until now",
        )


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
