"""The store on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio

from orchestrator.stores.sql.sql_store import SqlStore
from orchestrator.stores.sqlite.database import Synchronous, open_writer
from orchestrator.stores.sqlite.open_files import OpenFiles
from orchestrator.stores.sqlite.writer import Writer

__all__ = ["SqliteStore"]


class SqliteStore(SqlStore):
    """The one writer of a SQLite database."""

    def __init__(self, writer: Writer, files: OpenFiles) -> None:
        super().__init__(writer)
        self._files = files

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: str | Path, *, synchronous: Synchronous = "FULL", lock_timeout_s: float = 30.0
    ) -> AsyncIterator[Self]:
        """Open a database for writing, created if absent; raises ``StoreError`` if it cannot be used.

        ``synchronous="NORMAL"`` is faster and loses the latest commits in a power cut, though not in a crash; a lost
        response id is lost money. ``lock_timeout_s`` is how long to wait for another program's lock.
        """
        path = Path(path)
        connection = await open_writer(path, synchronous=synchronous, lock_timeout_s=lock_timeout_s)
        writer = Writer(connection, path, lock_timeout_s=lock_timeout_s)
        try:
            yield cls(writer, OpenFiles(path))
        finally:
            # A cancelled close would leave the thread answering an event loop that is gone.
            with anyio.CancelScope(shield=True):
                await writer.aclose()

    def check_in_place(self) -> None:
        self._files.check()
