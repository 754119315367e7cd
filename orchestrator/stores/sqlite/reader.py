"""Reads a SQLite file that another process may be writing to."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite
import anyio

from orchestrator.stores.sql.connection import SqlConnection
from orchestrator.stores.sql.sql_reader import SqlReader
from orchestrator.stores.sqlite.database import SqliteConnection, damaged, in_thread, open_reader, reporting_damage

__all__ = ["SqliteReader"]

T = TypeVar("T")
R = TypeVar("R")


def _is_of_a_document(error: ValueError) -> bool:
    """Whether a stored document, such as the job of a run, could not be read by the code that asked for it."""
    from pydantic_core import ValidationError

    return isinstance(error, (json.JSONDecodeError, ValidationError))


def _reporting(reader: type[R]) -> type[R]:
    """Makes each method of a reader raise ``StoreError`` for a value that it cannot understand."""
    for name, method in inspect.getmembers(reader, inspect.isfunction):
        if name.startswith("_"):
            continue
        if inspect.iscoroutinefunction(method):
            setattr(reader, name, _reporting_call(method))
        elif inspect.isasyncgenfunction(method):
            setattr(reader, name, _reporting_iteration(method))
    return reader


def _reporting_call(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: SqliteReader, *args: Any, **names: Any) -> Any:
        with reporting_damage(self._path):
            return await method(self, *args, **names)

    return call


def _reporting_iteration(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    @wraps(method)
    async def iterate(self: SqliteReader, *args: Any, **names: Any) -> AsyncIterator[Any]:
        items = method(self, *args, **names)
        while True:
            with reporting_damage(self._path):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item

    return iterate


@_reporting
class SqliteReader(SqlReader):
    """Reads a SQLite database through a connection that cannot write; see ``stores.base.Reader``."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, path: str | Path) -> AsyncIterator[Self]:
        """Open a database that exists; raises ``StoreError`` if it does not, or cannot be read."""
        path = Path(path)
        connection = await open_reader(path)
        try:
            yield cls(connection, path)
        except ValueError as error:
            if _is_of_a_document(error):
                raise damaged(path) from error
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        def in_one_snapshot(connection: SqliteConnection) -> T:
            connection.execute("BEGIN")
            try:
                return function(connection)
            finally:
                connection.rollback()

        with reporting_damage(self._path):
            return await in_thread(self._connection, in_one_snapshot)
