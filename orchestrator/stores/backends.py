"""Chooses the driver of a database by its address; a new driver is added here and as a package beside ``sqlite``."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.errors import UsageError
from orchestrator.stores.base import Backend
from orchestrator.stores.sqlite.backend import SqliteBackend
from orchestrator.stores.user_errors import NAME_ANOTHER

__all__ = ["open_backend"]

_UNSUPPORTED = ("postgres", "postgresql")


def open_backend(address: str | Path) -> Backend:
    """The backend of an address: a path is a SQLite file. Raises ``UsageError`` for a server it cannot use."""
    # A path made of a URL has lost one of its two slashes.
    scheme, separator, _ = str(address).partition(":/")
    if separator and scheme in _UNSUPPORTED:
        raise UsageError(
            f"this version cannot keep runs in {scheme}",
            hint=f"only SQLite files are supported: {NAME_ANOTHER}",
        )
    return SqliteBackend(Path(address))
