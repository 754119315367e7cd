"""A database on a PostgreSQL server as a database of runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio.to_thread
import psycopg

from orchestrator.core.errors import RunBusy, UsageError
from orchestrator.stores.base import Advice, ViewReader
from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.advice import advice
from orchestrator.stores.postgres.connection import SCHEMA, connect
from orchestrator.stores.postgres.database import migrations, store_error
from orchestrator.stores.postgres.postgres_store import SERVER_TIMEOUT_S, PostgresReader, PostgresStore
from orchestrator.stores.postgres.postgres_tables import open_tables
from orchestrator.stores.postgres.postgres_writer import PostgresWriter
from orchestrator.stores.postgres.writing_session import RUN_LOCKS, Session
from orchestrator.stores.tables import Tables
from orchestrator.stores.user_errors import dataset_locked, run_locked

__all__ = ["PostgresBackend"]

_IS_LOCKED = """SELECT EXISTS (
  SELECT 1 FROM pg_locks
  WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = $1::bigint::oid AND objid = $2::bigint::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)"""
_HOLDER = "SELECT name FROM holder WHERE key = $1"


class PostgresBackend:
    """A database that a URL names; see ``stores.base.Backend``.

    The locks of runs are held by the session that writes: a write can only be committed while its lock is held.
    """

    def __init__(self, url: str, *, server_timeout_s: float = SERVER_TIMEOUT_S) -> None:
        self._url = url
        self._server_timeout_s = server_timeout_s
        self._writers: list[PostgresWriter] = []
        self._held: set[int] = set()

    @property
    def address(self) -> str:
        return shown_address(self._url)

    @property
    def local_path(self) -> Path:
        """Not a file itself: what is kept on this machine for the database is beside it."""
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "orchestrator"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / sha256(self.address.encode()).hexdigest()[:16]

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[PostgresStore]:
        async with PostgresStore.open(self._url, server_timeout_s=self._server_timeout_s) as store:
            self._writers.append(store.writer)
            try:
                yield store
            finally:
                self._writers.remove(store.writer)

    def open_reader(self) -> AbstractAsyncContextManager[PostgresReader]:
        return PostgresReader.open(self._url, server_timeout_s=self._server_timeout_s)

    def open_view(self) -> AbstractAsyncContextManager[ViewReader]:
        from orchestrator.stores.postgres.postgres_pages import PostgresPageReader

        return PostgresPageReader.open(self._url, server_timeout_s=self._server_timeout_s)

    async def exists(self) -> bool:
        return await anyio.to_thread.run_sync(self._exists)

    async def check(self) -> None:
        existed = await self.exists()
        async with self.open_store():
            pass
        if not existed:
            await anyio.to_thread.run_sync(self._remove)

    def open_tables(self, *, writes: bool) -> AbstractContextManager[Tables]:
        return open_tables(self._url, writes=writes)

    async def advice(self) -> Sequence[Advice]:
        return await anyio.to_thread.run_sync(self._advice)

    def lock(self, run_id: int, name: str) -> AbstractContextManager[object]:
        return self._lock(run_id, lambda holder: run_locked(name, holder=holder))

    def lock_dataset(self, dataset_id: int, name: str) -> AbstractContextManager[object]:
        return self._lock(-dataset_id, lambda holder: dataset_locked(name, holder=holder))

    def lock_shard(self, run_id: int, number: int, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        raise UsageError(
            f"run {name!r} is in a PostgreSQL database, in which one process works on a run",
            hint="start a run of its own for each part of the input; they share the caps of day and month",
        )

    def lock_shards(self, run_id: int, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        return nullcontext()

    def is_locked(self, run_id: int) -> bool:
        if run_id in self._held:
            return True
        [(locked,)] = self._ask(_IS_LOCKED, [RUN_LOCKS, run_id & 0xFFFF_FFFF])
        return bool(locked)

    # ── how ───────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _lock(self, key: int, busy: Callable[[str], RunBusy]) -> Iterator[None]:
        if key in self._held:
            raise busy("this process")
        with self._session() as now:
            if not now(lambda session: session.take(key)):
                holder = now(lambda session: session.ask(_HOLDER, [key]))
                raise busy(f"another process ({holder[0][0]})" if holder else "another process")
            self._held.add(key)
            try:
                yield
            finally:
                self._held.discard(key)
                now(lambda session: session.leave(key))

    @contextmanager
    def _session(self) -> Iterator[Callable[[Callable[[Session], Any]], Any]]:
        """What runs functions on the session that writes, or on one of its own if nothing is written."""
        if self._writers:
            yield self._writers[-1].now
            return
        session = Session(self._url, server_timeout_s=self._server_timeout_s)
        try:
            yield lambda function: function(session)
        finally:
            session.close()

    def _ask(self, query: str, parameters: list[Any]) -> list[Any]:
        if self._writers:
            return self._writers[-1].now(lambda session: session.ask(query, parameters))
        with self._connected() as raw:
            return raw.execute(query, parameters).fetchall()

    def _advice(self) -> list[Advice]:
        with self._connected() as raw:
            return advice(raw)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with connect(self._url) as raw:
                yield raw
        except psycopg.Error as error:
            raise store_error(error, self.address) from error

    def _exists(self) -> bool:
        with self._connected() as raw:
            found = raw.execute("SELECT to_regclass($1) IS NOT NULL", [f"{SCHEMA}.schema_version"]).fetchone()
            return bool(found and found[0]) and bool(migrations())

    def _remove(self) -> None:
        with self._connected() as raw:
            raw.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
