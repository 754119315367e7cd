"""An empty database for each test, on a server that all tests of a process share."""

from __future__ import annotations

import atexit
from functools import cache

import psycopg

from orchestrator.stores.postgres.database import open_connection
from orchestrator.stores.postgres.postgres_backend import PostgresBackend
from tests.postgres_server import PostgresServer, a_server

__all__ = ["migrated", "new_schema", "shared_server"]


@cache
def shared_server() -> PostgresServer:
    server = a_server()
    atexit.register(server.stop)
    return server


def new_schema() -> PostgresBackend:
    """The backend of a database without a run."""
    backend = PostgresBackend(migrated())
    with psycopg.connect(migrated(), autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(_tables(connection))} RESTART IDENTITY")
    return backend


@cache
def migrated() -> str:
    """The address of a database with the tables."""
    url = shared_server().url()
    open_connection(url, writes=True).raw.close()
    return url


def _tables(connection: psycopg.Connection[tuple[str]]) -> list[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'orchestrator'").fetchall()
    return [f"orchestrator.{name}" for (name,) in found if name != "schema_version"]
