"""The store on PostgreSQL, and its reader."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Self, TypeVar

import anyio
import psycopg

from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.connection import PostgresConnection
from orchestrator.stores.postgres.database import is_lost, open_connection, store_error
from orchestrator.stores.postgres.postgres_writer import PostgresWriter
from orchestrator.stores.postgres.writing_session import Session
from orchestrator.stores.sql.connection import SqlConnection
from orchestrator.stores.sql.sql_reader import SqlReader
from orchestrator.stores.sql.sql_store import SqlStore

__all__ = ["PostgresReader", "PostgresStore"]

T = TypeVar("T")

# How long a restart of the server may take.
SERVER_TIMEOUT_S = 120.0
_BETWEEN_TRIES_S = 0.25
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresStore(SqlStore):
    """One of the writers of a database; several processes may write at the same time."""

    def __init__(self, writer: PostgresWriter) -> None:
        super().__init__(writer)
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, server_timeout_s: float = SERVER_TIMEOUT_S) -> AsyncIterator[Self]:
        """Open a database for writing, and make its tables if there are none.

        ``server_timeout_s`` is how long to wait for a server that is being restarted.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="store writer")
        try:
            session = await asyncio.wrap_future(thread.submit(Session, url, server_timeout_s=server_timeout_s))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        writer = PostgresWriter(url, session, thread)
        try:
            yield cls(writer)
        finally:
            with anyio.CancelScope(shield=True):
                await writer.aclose()

    def check_in_place(self) -> None:
        """A server's files are the server's concern."""


class PostgresReader(SqlReader):
    """Reads through a connection of its own, in snapshots."""

    def __init__(
        self, url: str, connection: PostgresConnection, thread: ThreadPoolExecutor, server_timeout_s: float
    ) -> None:
        self._url = url
        self._connection = connection
        self._thread = thread
        self._server_timeout_s = server_timeout_s
        self._closing = threading.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, server_timeout_s: float = SERVER_TIMEOUT_S) -> AsyncIterator[Self]:
        """Open a database that has been written to; raises ``StoreError`` if it has not."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="store reader")
        try:
            connection = await asyncio.wrap_future(thread.submit(open_connection, url, writes=False))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        reader = cls(url, connection, thread, server_timeout_s)
        try:
            yield reader
        finally:
            reader._closing.set()
            with anyio.CancelScope(shield=True):
                await asyncio.wrap_future(thread.submit(lambda: reader._connection.raw.close()))
            thread.shutdown(wait=False)

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(self._read_despite_losses, function))

    def _read_despite_losses(self, function: Callable[[SqlConnection], T]) -> T:
        """Read in one snapshot; if the connection is lost, again on another one."""
        began = time.monotonic()
        while True:
            try:
                if self._connection.raw.closed:
                    self._connection = open_connection(self._url, writes=False)
                return self._in_one_snapshot(function)
            except Exception as error:
                cause = error if isinstance(error, psycopg.Error) else error.__cause__
                if not isinstance(cause, psycopg.Error):
                    raise
                if not is_lost(cause) or self._closing.is_set() or time.monotonic() - began > self._server_timeout_s:
                    raise store_error(cause, shown_address(self._url)) from cause
            self._closing.wait(_BETWEEN_TRIES_S)

    def _in_one_snapshot(self, function: Callable[[SqlConnection], T]) -> T:
        raw = self._connection.raw
        self._connection.execute(_SNAPSHOT)
        try:
            return function(self._connection)
        finally:
            if not raw.closed:
                raw.rollback()
