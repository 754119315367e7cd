"""The state file: what is in it after the process is killed, and which process may use it."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.process import SandboxEndpoint, embedded_sandbox
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.testing import FakeClock
from tests.warm import warm_python

from .callers import Caller, Start

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"latency": {"queue": 0, "run": 0}, "idempotency": "honour"}


@asynccontextmanager
async def in_loop(settings: SandboxSettings, state_file: Path, clock: FakeClock) -> AsyncIterator[Caller]:
    headers = {"authorization": "Bearer sk-test"}
    sandbox = running_sandbox(settings, state_file=state_file, clock=clock)
    async with sandbox as base_url, httpx.AsyncClient(base_url=base_url, headers=headers) as http:
        yield Caller(http)


@asynccontextmanager
async def caller_of(endpoint: SandboxEndpoint) -> AsyncIterator[Caller]:
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    async with httpx.AsyncClient(base_url=endpoint.base_url, headers=headers) as http:
        yield Caller(http)


async def test_a_killed_sandbox_still_has_everything_it_replied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm_python())
    settings, state_file = SandboxSettings.model_validate(QUICK), tmp_path / "state.db"
    async with embedded_sandbox(settings, state_file) as endpoint, caller_of(endpoint) as caller:
        first = await caller.create(headers={"idempotency-key": "a"})
        seen = await caller.seen(first.json()["id"])
        for _ in range(20):
            last = await caller.created()
        os.kill(endpoint.pid, signal.SIGKILL)
    async with embedded_sandbox(settings, state_file) as endpoint, caller_of(endpoint) as caller:
        assert await caller.seen(seen["id"]) == seen
        assert (await caller.seen(last["id"]))["status"] == "completed"
        again = await caller.create(headers={"idempotency-key": "a"})
        assert again.json() == seen
        account = await caller.ledger()
        assert account["creates"] == {"calls": 22, "accepted": 21, "replayed": 1, "refused": {"total": 0}}
        assert account["seen_by_client"]["responses"] == {"completed": 21}
        items = await caller.http.get(f"/responses/{seen['id']}/input_items")
        assert items.json()["data"]


async def test_time_passes_while_no_sandbox_runs(clock: FakeClock, tmp_path: Path) -> None:
    settings = SandboxSettings.model_validate({"latency": {"queue": 10, "run": 20}})
    async with in_loop(settings, tmp_path / "state.db", clock) as caller:
        waiting, cancelled = [await caller.created() for _ in range(2)]
        await caller.cancel(cancelled["id"])
    clock.advance(30)
    async with in_loop(settings, tmp_path / "state.db", clock) as caller:
        assert (await caller.seen(waiting["id"]))["status"] == "completed"
        assert (await caller.seen(cancelled["id"]))["status"] == "cancelled"


def test_a_second_sandbox_waits_for_the_file_and_then_gives_up(tmp_path: Path) -> None:
    with SandboxDatabase(tmp_path / "state.db"):
        started = time.monotonic()
        with pytest.raises(StoreError, match="another sandbox works on the state file"):
            SandboxDatabase(tmp_path / "state.db", lock_wait_s=0.1)
        assert time.monotonic() - started >= 0.1
    with SandboxDatabase(tmp_path / "state.db", lock_wait_s=0):
        pass


def test_a_foreign_database_is_not_changed(tmp_path: Path) -> None:
    theirs = tmp_path / "runs.db"
    with sqlite3.connect(theirs) as db:
        db.execute("CREATE TABLE precious (id)")
    db.close()
    before = theirs.read_bytes()
    with pytest.raises(StoreError, match="not a state file of this version's sandbox"):
        SandboxDatabase(theirs)
    assert theirs.read_bytes() == before


def test_the_version_of_a_state_file_changes_with_its_tables_only(tmp_path: Path) -> None:
    with SandboxDatabase(tmp_path / "state.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = [row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")]
    assert (version, zlib.crc32("\n".join(tables).encode())) == (1_602_336_737, 3_749_820_385)


async def test_memory_is_bounded_without_a_file(start: Start, clock: FakeClock) -> None:
    caller = await start(keep_bodies=2)
    ids = [(await caller.created())["id"] for _ in range(3)]
    assert [(await caller.poll(each)).status_code for each in ids] == [404, 200, 200]
    clock.advance(30)
    assert (await caller.ledger())["responses"] == {"completed": 3}


async def test_the_same_seed_and_requests_give_the_same_run(start: Start, clock: FakeClock) -> None:
    faults = {"server_error": 0.2, "refusal": 0.2, "poll_500": 0.2}
    runs = []
    for _ in range(2):
        caller = await start(seed=5, faults=faults, latency={"queue": 1, "run": {"median_s": 5}})
        observed: list[Any] = []
        for n in range(15):
            created = await caller.create(input=f"Text number {n} is short. It has two sentences.")
            observed.append(created.status_code)
            if created.status_code == 200:
                clock.advance(5)
                polled = await caller.poll(created.json()["id"])
                observed += [polled.status_code, polled.json().get("status"), polled.json().get("usage")]
        runs.append(observed)
    assert runs[0] == runs[1]
    assert {200, 500, "completed"} <= {each for each in runs[0] if isinstance(each, int | str)}
