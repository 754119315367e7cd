"""The driver for SQLite: one writing connection that commits in groups, and readers beside it."""

from orchestrator.stores.sqlite.reader import SqliteReader
from orchestrator.stores.sqlite.store import SqliteStore

__all__ = ["SqliteReader", "SqliteStore"]
