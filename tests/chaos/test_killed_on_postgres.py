"""A run on PostgreSQL that is killed, and whose server is killed, loses nothing and pays no known response twice."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.postgres_server import PostgresServer, a_server

from .conftest import Note
from .station import Provider, Station
from .test_crashes import KilledRun

pytestmark = pytest.mark.services

ROWS = 300
PASSWORD = "a-secret-of-the-database"


@dataclass
class PostgresStation(Station):
    """A user's folder whose database is on a server."""

    url: str = ""

    def run_arguments(self, *more: str) -> list[str]:
        return ["run", "job.yaml", "--config", "config.yaml", "--db", self.url, "--run", "r", "--json", *more]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET search_path = orchestrator")
            return connection.execute(sql).fetchall()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    started = a_server(fsync=True)
    try:
        yield started
    finally:
        started.stop()


def killed_run(folder: Path, provider: Provider, server: PostgresServer) -> KilledRun:
    limits = {"requests_per_minute": 3_000, "polls_per_minute": 60_000, "max_in_flight": 64}
    config = {"provider": {"base_url": f"{provider.address}/v1"}, "limits": limits}
    url = server.url().replace("postgres@", f"postgres:{PASSWORD}@")
    station = PostgresStation(folder, rows=ROWS, config=config, provider=provider, url=url)
    return KilledRun(station, random.Random(11))


def test_kills_of_the_run_and_of_the_server_lose_nothing(tmp_path: Path, server: PostgresServer, note: Note) -> None:
    settings = {"latency": {"queue": 0.1, "run": {"from_s": 0.3, "to_s": 1.0}}}
    with Provider(tmp_path, settings) as provider:
        run = killed_run(tmp_path, provider, server)
        for _ in range(4):
            run.kill_after(run.rng.uniform(0.2, 1.0))
        process = run._begin()
        run._wait_for_start(process)
        time.sleep(0.5)
        server.kill()
        server.start()
        assert process.wait(timeout=120) == 0, run._log.read_text()
        said = run._log.read_text()
        summary = run.finish()
        assert summary["requests"]["succeeded"] == summary["requests"]["total"] == ROWS
        exported = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        assert [each["key"] for each in exported] == [f"row-{n}" for n in range(ROWS)]
        ledger, created = provider.ledger(), provider.responses()
        assert ledger["seen_by_client"]["cost_usd"] == summary["cost_usd"]
        of_key = Counter(each["key"] for each in created)
        stored = {
            row[0] for row in run.station.query("SELECT response_id FROM attempt WHERE response_id IS NOT NULL")
        }
        assert len(of_key) == ROWS
        assert sum(of_key.values()) - ROWS <= len(run.on_the_wire)
        assert Counter(each["key"] for each in created if each["id"] in stored) == dict.fromkeys(of_key, 1)
        assert PASSWORD not in said + json.dumps(summary)
        note(f"{sum(run.kills.values())} kills of the run, 1 of the server; {len(created)} responses for {ROWS} rows")
