"""New databases, copied from one that was migrated once: migrations take most of the CPU of a short test."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import anyio

from orchestrator.stores.sqlite.backend import SqliteBackend

__all__ = ["new_database"]


def new_database(path: Path) -> SqliteBackend:
    """The backend of a new database. A power cut is not the subject of tests, so nothing waits for the disk."""
    path.write_bytes(_migrated())
    return SqliteBackend(path, synchronous="NORMAL")


@cache
def _migrated() -> bytes:
    async def migrate() -> None:
        async with SqliteBackend(path).open_store():
            pass

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        anyio.run(migrate)
        return path.read_bytes()
