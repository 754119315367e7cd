"""Requests of other runs are found by an index, however many there are."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.stores.sql import adoption
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.migrations import migrations

_REQUESTS = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO request (id, run_id, stage, key, state, number, settled_at, fingerprint)
SELECT n, 1 + n % :runs, 'main', n, 'succeeded', 1, 5.0, CAST(printf('%016d', n / :runs) AS BLOB) FROM number
"""
_ATTEMPTS = """
INSERT INTO attempt (id, idempotency_key, sent_at, ended_at, response_id, status)
SELECT id * 1000000 + 1, 'k', 1.0, 5.0, 'resp_' || id, 'completed' FROM request
"""


def filled(path: Path, *, count: int, runs: int) -> sqlite3.Connection:
    """A database of runs that all asked the same requests."""
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, migrations(), path=path)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO run (id, name, uid, job, spec, fingerprint, input_identity, state, created_at)"
        " VALUES (?, ?, ?, 'j', '{}', '', '', 'finished', 0)",
        [(run, f"r-{run}", f"u-{run}") for run in range(1, runs + 2)],
    )
    connection.execute(_REQUESTS, {"count": count, "runs": runs})
    connection.execute(_ATTEMPTS)
    connection.execute("INSERT INTO result (attempt_id, output_text) SELECT id, 'x' FROM attempt")
    connection.execute("COMMIT")
    return connection


def test_the_plan_searches_by_the_fingerprint(tmp_path: Path) -> None:
    sql = queries("other_runs.sql")
    with closing(filled(tmp_path / "runs.db", count=60, runs=3)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql['others']}", (b"0" * 16, 4, 0.0))]
        assert plan[0] == "SEARCH request USING INDEX request_fingerprint (fingerprint=?)"
        assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in plan)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql['waits']}", {"run_id": 1})]
        assert plan[0] == "SEARCH waiting USING INDEX waiting_run (run_id=?)"
        assert not any(step.startswith("SCAN") for step in plan)
        [found] = adoption.others(connection.execute, 4, b"%016d" % 7, 0.0)
        assert found.request_id == 23


@pytest.mark.long
def test_a_search_in_a_million_requests_takes_microseconds(tmp_path: Path) -> None:
    searches = 20_000
    with closing(filled(tmp_path / "runs.db", count=1_000_000, runs=10)) as connection:
        began = time.process_time()
        for number in range(searches):
            assert adoption.others(connection.execute, 11, b"%016d" % (1 + number * 4), 0.0)
        each_us = (time.process_time() - began) / searches * 1e6
    print(f"{each_us:.1f} µs of CPU for each search")  # noqa: T201  # pytest shows it
    assert each_us < 200
