"""A run on PostgreSQL beside the same run on SQLite, in turns: the rows/s of one process, and its CPU per row.

The server is named by ORCHESTRATOR_BENCHMARK_POSTGRES, with the right to create databases; without it nothing is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from benchmarks.figures import AtLeast, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import measure
from benchmarks.product import run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["on_postgres"]

_SERVER = "ORCHESTRATOR_BENCHMARK_POSTGRES"
_ROWS = 6000


def on_postgres(extent: Extent) -> Iterator[Figure]:
    """Rows/s on a PostgreSQL server, and beside SQLite."""
    server = os.environ.get(_SERVER)
    if not server:
        print(f"NO POSTGRESQL SERVER: name one in {_SERVER}; this scenario did not run")
        return
    sqlite, postgres, cpu_ms = list[float](), list[float](), list[float]()
    for number in range(extent.rounds):
        sqlite.append(_rows_per_s(None)[0])
        with _database(server, f"orchestrator_benchmark_{os.getpid()}_{number}") as url:
            rows_per_s, cpu = _rows_per_s(url)
        postgres.append(rows_per_s)
        cpu_ms.append(cpu)
    yield figure("rows/s on PostgreSQL", postgres, "rows/s", AtLeast(800.0))
    yield figure("rows/s beside SQLite", [a / b for a, b in zip(postgres, sqlite, strict=True)], "x", AtLeast(0.5))
    yield figure("CPU on PostgreSQL", cpu_ms, "ms/row")


def _rows_per_s(url: str | None) -> tuple[float, float]:
    """The rows that a run settles in a second, as the server sees them, and the CPU of each."""
    with scratch() as folder, responder(Latency(0.05)) as server:
        Workload(rows=_ROWS).write(folder, server.base_url)
        command = run_command(folder)
        if url is not None:
            command[command.index("--db") + 1] = url
        cost = measure(command)
        return server.seen().rows_per_s, cost.cpu_s / _ROWS * 1e3


@contextmanager
def _database(server: str, name: str) -> Iterator[str]:
    """A database that exists for one run."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
