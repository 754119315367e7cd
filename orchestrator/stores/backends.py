"""Chooses the driver of a database by its address; a new driver is added here and as a package beside ``sqlite``."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.errors import UsageError
from orchestrator.stores.base import Backend
from orchestrator.stores.database_address import is_server
from orchestrator.stores.sqlite.backend import SqliteBackend
from orchestrator.stores.user_errors import NAME_ANOTHER

__all__ = ["open_backend"]


def open_backend(address: str | Path) -> Backend:
    """The backend of an address: a URL is a PostgreSQL server, a path is a SQLite file.

    Raises ``UsageError`` if the driver of the server is not installed.
    """
    if not is_server(address):
        return SqliteBackend(Path(address))
    try:
        from orchestrator.stores.postgres.postgres_backend import PostgresBackend
    except ModuleNotFoundError as error:
        raise UsageError(
            f"PostgreSQL needs a package that is not installed: {error.name}",
            hint=f"pip install 'responses-orchestrator[postgres]', or {NAME_ANOTHER}",
        ) from error
    return PostgresBackend(str(address))
