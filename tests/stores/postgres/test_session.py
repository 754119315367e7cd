"""Locks end with their holder, and writes outlive the loss of a connection and a restart of the server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from orchestrator.core.errors import RunBusy, StoreError
from orchestrator.core.states import State
from orchestrator.stores.postgres import writing_session
from orchestrator.stores.postgres.postgres_backend import PostgresBackend
from orchestrator.stores.postgres.postgres_store import PostgresStore
from tests.postgres_server import PostgresServer, a_server
from tests.stores.builders import Harness, a_claim, a_run

from .new_schema import migrated, new_schema

pytestmark = [pytest.mark.anyio, pytest.mark.services]

_WAITING_S = 30.0


@asynccontextmanager
async def opened(backend: PostgresBackend, name: str = "demo") -> AsyncIterator[Harness]:
    async with backend.open_store() as store, backend.open_reader() as reader:
        yield Harness(store, reader, await store.create_run(a_run(name)))


def session_of(harness: Harness) -> writing_session.Session:
    assert isinstance(harness.store, PostgresStore)
    return harness.store.writer._session


def sessions_end(url: str) -> None:
    """The server ends all sessions but the one that asks."""
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                      "AND backend_type = 'client backend'")  # fmt: skip


async def until(condition: Callable[[], Awaitable[bool]]) -> float:
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < _WAITING_S
        await anyio.sleep(0.01)
    return time.monotonic() - began


# ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in the middle of a statement"])
async def test_a_holder_that_is_killed_frees_its_run(busy: bool) -> None:
    backend = new_schema()
    async with opened(backend) as harness:
        run_id = harness.run.id
        script = Path(__file__).with_name("holder.py")
        command = [sys.executable, str(script), migrated(), str(run_id), *(["busy"] if busy else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:  # noqa: ASYNC220
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(RunBusy, match=rf"another process \(process {holder.pid} on "),
                backend.lock(run_id, "demo"),
            ):
                pass
            await anyio.sleep(0.3 if busy else 0)
            holder.kill()

        async def is_free() -> bool:
            return not backend.is_locked(run_id)

        # A second is what is promised on a machine that has nothing else to do.
        assert await until(is_free) < 5
        with backend.lock(run_id, "demo"):
            assert backend.is_locked(run_id)


async def test_a_writer_whose_run_was_taken_over_writes_nothing_more() -> None:
    backend, other = new_schema(), PostgresBackend(migrated())
    async with opened(backend) as harness:
        [request] = await harness.add(1)
        with backend.lock(harness.run.id, "demo"):
            thread_is_free = session_of(harness)
            sessions_end(migrated())
            with other.lock(harness.run.id, "demo"):
                with pytest.raises(StoreError, match="another process has taken the run over"):
                    await harness.claim(request)
                with pytest.raises(StoreError, match="another process has taken the run over"):
                    await harness.store.remember("later", b"")
            assert thread_is_free is session_of(harness)
        assert (await harness.summary()).attempts == 0


# ── losses ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sessions_that_the_server_ends_are_opened_again() -> None:
    backend = new_schema()
    async with opened(backend) as harness:
        requests = await harness.add(3)
        with backend.lock(harness.run.id, "demo"):
            for request in requests:
                sessions_end(migrated())
                assert await harness.submit(request)
            assert backend.is_locked(harness.run.id)
        assert await harness.states() == {State.SUBMITTED: 3}
        assert (await harness.summary()).attempts == 3


@pytest.mark.parametrize("arrives", [True, False], ids=["after the commit", "before the commit"])
async def test_a_group_is_written_once_whenever_its_connection_is_lost(
    monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """The reply to the commit is lost: the group was committed, or not, and the caller gets the same answer."""
    backend = new_schema()
    async with opened(backend) as harness:
        [request] = await harness.add(1)
        raw = session_of(harness).connection.raw
        execute = raw.execute
        lost: list[str] = []

        def losing(statement: Any, *given: Any, **named: Any) -> Any:
            if "COMMIT" not in str(statement) or lost:
                return execute(statement, *given, **named)
            lost.append("once")
            if arrives:
                execute(statement, *given, **named)
            raw.close()
            raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr(raw, "execute", losing)
        assert isinstance(await harness.claim(request), int)
        assert lost == ["once"]
        assert (await harness.summary()).attempts == 1
        assert len(await harness.open_attempts()) == 1


async def test_a_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = new_schema()
    async with opened(backend) as harness:
        [request] = await harness.add(1)
        connection = session_of(harness).connection
        execute, failed = connection.execute, [0]

        def deadlocked(statement: str, parameters: Any = ()) -> Any:
            if statement.startswith("UPDATE request") and failed[0] < 2:
                failed[0] += 1
                raise psycopg.errors.DeadlockDetected
            return execute(statement, parameters)

        monkeypatch.setattr(connection, "execute", deadlocked)
        assert isinstance(await harness.claim(request), int)
        assert failed == [2]
        assert (await harness.summary()).attempts == 1


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    started = a_server(fsync=True)
    try:
        yield started
    finally:
        started.stop()


async def test_a_server_that_is_killed_and_started_again_loses_nothing(server: PostgresServer) -> None:
    backend = PostgresBackend(server.url())
    async with opened(backend) as harness:
        requests = await harness.add(200)
        accepted: list[int] = []
        some = anyio.Event()

        async def submit() -> None:
            while requests:
                request = requests.pop()
                accepted.append(await harness.submit(request))
                if len(accepted) == 40:
                    some.set()

        with backend.lock(harness.run.id, "demo"):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(submit)
                await some.wait()
                await anyio.to_thread.run_sync(server.kill)
                await anyio.to_thread.run_sync(server.start)
            assert backend.is_locked(harness.run.id)
        assert len(accepted) == len({*accepted}) == 200
        assert await harness.states() == {State.SUBMITTED: 200}
        summary = await harness.summary()
        assert (summary.attempts, summary.reserved_pusd) == (200, 200 * 5_000)


async def test_a_server_that_stays_away_is_an_error(server: PostgresServer) -> None:
    backend = PostgresBackend(server.url(), server_timeout_s=0.5)
    async with opened(backend) as harness:
        await harness.add(1)
        server.stop()
        with pytest.raises(StoreError, match="the server cannot be reached"):
            await harness.store.claim(a_claim(1, run_id=harness.run.id))
        with pytest.raises(StoreError, match="the server cannot be reached"):
            await harness.summary()
