"""Reads a PostgreSQL database for the web view."""

from __future__ import annotations

from orchestrator.stores.postgres.postgres_store import PostgresReader
from orchestrator.stores.sql.row_page_reader import SqlPageReader

__all__ = ["PostgresPageReader"]


class PostgresPageReader(SqlPageReader, PostgresReader):
    """Pages of rows on PostgreSQL."""
