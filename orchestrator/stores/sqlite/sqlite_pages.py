"""Reads a SQLite database for the web view."""

from __future__ import annotations

from orchestrator.stores.sql.row_page_reader import SqlPageReader
from orchestrator.stores.sqlite.reader import SqliteReader

__all__ = ["SqlitePageReader"]


class SqlitePageReader(SqlPageReader, SqliteReader):
    """Pages of rows on SQLite."""
