"""One SQLite file as a database of runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from orchestrator.stores.base import Advice
from orchestrator.stores.sqlite.database import Synchronous
from orchestrator.stores.sqlite.reader import SqliteReader
from orchestrator.stores.sqlite.run_lock import DatasetLock, RunLock, ShardLock, is_locked
from orchestrator.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from orchestrator.stores.sqlite.sqlite_pages import SqlitePageReader

from orchestrator.stores.tables import Tables

__all__ = ["SqliteBackend"]


class SqliteBackend:
    """A SQLite file with its lock file beside it; see ``stores.base.Backend``.

    ``synchronous`` is that of ``SqliteStore.open``.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "FULL") -> None:
        self.local_path = path
        self._synchronous = synchronous

    @property
    def address(self) -> str:
        return str(self.local_path)

    def open_store(self) -> AbstractAsyncContextManager[SqliteStore]:
        return SqliteStore.open(self.local_path, synchronous=self._synchronous)

    def open_reader(self) -> AbstractAsyncContextManager[SqliteReader]:
        return SqliteReader.open(self.local_path)

    def open_view(self) -> AbstractAsyncContextManager[SqlitePageReader]:
        # No other command needs it.
        from orchestrator.stores.sqlite.sqlite_pages import SqlitePageReader

        return SqlitePageReader.open(self.local_path)

    async def exists(self) -> bool:
        return await anyio.Path(self.local_path).exists()

    async def check(self) -> None:
        existed = await self.exists()
        async with self.open_store():
            pass
        if not existed:
            await anyio.to_thread.run_sync(self._remove)

    def open_tables(self, *, writes: bool) -> AbstractContextManager[Tables]:
        # Only a copy needs it.
        from orchestrator.stores.sqlite.sqlite_tables import open_tables

        return open_tables(self.local_path, writes=writes)

    async def advice(self) -> Sequence[Advice]:
        return ()

    def lock(self, run_id: int, name: str) -> RunLock:
        return RunLock(self.local_path, run_id, name)

    def lock_dataset(self, dataset_id: int, name: str) -> DatasetLock:
        return DatasetLock(self.local_path, dataset_id, name)

    def lock_shard(self, run_id: int, number: int, name: str) -> ShardLock:
        return ShardLock(self.local_path, run_id, number, name)

    def lock_shards(self, run_id: int, name: str) -> ShardLock:
        return ShardLock(self.local_path, run_id, None, name)

    def is_locked(self, run_id: int) -> bool:
        return is_locked(self.local_path, run_id)

    def _remove(self) -> None:
        for file in (self.local_path, *self.local_path.parent.glob(f"{self.local_path.name}-*")):
            file.unlink(missing_ok=True)
