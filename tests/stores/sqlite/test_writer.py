"""The writer: groups, errors, cancelled callers, locks, closing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import aiosqlite
import anyio
import anyio.lowlevel
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.core.states import State
from orchestrator.stores.base import Store
from orchestrator.stores.sql import group_writer
from orchestrator.stores.sqlite import SqliteReader, SqliteStore, writer
from orchestrator.stores.sqlite import database as database_module
from orchestrator.stores.sqlite.database import in_thread
from orchestrator.stores.writes import Counts
from tests.stores.builders import Harness, a_charge, a_claim, a_run, mark, rows

from .audit import ask

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_harness(database: Path, *, lock_timeout_s: float = 30.0) -> AsyncIterator[Harness]:
    async with (
        SqliteStore.open(database, lock_timeout_s=lock_timeout_s) as store,
        SqliteReader.open(database) as reader,
    ):
        yield Harness(store, reader, await store.create_run(a_run()))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program in the middle of a write."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def connection_of(store: Store) -> aiosqlite.Connection:
    assert isinstance(store, SqliteStore)
    assert isinstance(store._writer, writer.Writer)
    return store._writer._connection


async def commits_of(store: Store) -> list[str]:
    """Grows by one with each transaction from here on."""
    commits: list[str] = []

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)

    await in_thread(connection_of(store), watch)
    return commits


async def claim(store: Store, request_id: int) -> None:
    await store.claim(a_claim(request_id, run_id=1))


async def claim_all(store: Store, request_ids: Iterable[int]) -> None:
    async with anyio.create_task_group() as tasks:
        for request_id in request_ids:
            tasks.start_soon(claim, store, request_id)


async def test_what_is_queued_together_is_committed_together(harness: Harness) -> None:
    requests = await harness.add(300)
    commits = await commits_of(harness.store)
    await claim_all(harness.store, [request.id for request in requests])
    assert len(commits) <= 2


async def test_after_a_large_commit_more_writes_gather(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but closing ends the delay here."""
    monkeypatch.setattr(group_writer, "_COMMIT_DELAY_S", 3600.0)
    async with anyio.create_task_group() as tasks, a_harness(database) as harness:
        await harness.add(9)
        commits = await commits_of(harness.store)
        await claim_all(harness.store, range(1, 6))
        for request_id in range(6, 10):
            tasks.start_soon(claim, harness.store, request_id)
            await anyio.wait_all_tasks_blocked()
        assert len(commits) == 1
    assert len(commits) == 2
    assert ask(database, "SELECT count(*) FROM request WHERE state = 'submitting'") == [(9,)]


async def test_a_single_write_does_not_wait_for_others(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_writer, "_COMMIT_DELAY_S", 3600.0)
    for request in await harness.add(3):
        await harness.claim(request)


async def test_one_refused_write_does_not_harm_the_others(harness: Harness) -> None:
    requests = await harness.add(20)
    refused: list[tuple[int, bool]] = []

    async def claim(number: int) -> None:
        worst_case = -1 if number == 7 else 5
        try:
            await harness.store.claim(a_claim(requests[number].id, run_id=1, worst_case_pusd=worst_case))
        except StoreError as error:
            refused.append((number, "CHECK constraint failed" in str(error)))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(claim, number)
    assert refused == [(7, True)]
    assert await harness.states() == {State.PENDING: 1, State.SUBMITTING: 19}
    assert (await harness.summary()).reserved_pusd == 95


async def test_a_price_that_was_rolled_back_is_made_again(harness: Harness, database: Path) -> None:
    first, second = await harness.add(2)
    attempts = [await harness.submit(request) for request in (first, second)]
    with pytest.raises(StoreError, match="CHECK constraint"):
        await harness.end(first, attempts[0], State.SUCCEEDED, charge=a_charge(-1))
    assert await harness.end(second, attempts[1], State.SUCCEEDED)
    [attempt] = await harness.reader.attempts(second.id)
    assert attempt.charge == a_charge()
    assert await harness.states() == {State.SUBMITTED: 1, State.SUCCEEDED: 1}


async def test_a_cancelled_caller_leaves_its_write_to_be_done(harness: Harness) -> None:
    [request] = await harness.add(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await harness.try_claim(request)
    assert scope.cancelled_caught
    await harness.flush()
    [open_] = await harness.open_attempts()
    assert open_.request_id == request.id


async def test_notes_are_written_soon_although_no_one_waits(harness: Harness, database: Path) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    await harness.store.note_status(attempt_id, "in_progress")
    while ask(database, "SELECT status FROM attempt") != [("in_progress",)]:  # noqa: ASYNC110  # nothing signals it
        await anyio.sleep(0.05)


async def test_closing_writes_what_is_queued_even_when_cancelled(database: Path) -> None:
    with anyio.CancelScope() as scope:
        async with SqliteStore.open(database) as store:
            run = await store.create_run(a_run())
            await store.add_rows(run.id, rows(3), [], mark(3))
            await store.add_counts(run.id, Counts(polls=5))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(claim, store, 1)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert ask(database, "SELECT state FROM request ORDER BY id") == [("submitting",), ("pending",), ("pending",)]
    assert ask(database, "SELECT polls, attempts FROM run_total") == [(5, 1)]


async def test_closing_writes_all_that_is_queued_in_as_many_groups_as_it_takes(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_writer, "_GROUP", 2)
    with anyio.CancelScope() as scope:
        async with SqliteStore.open(database) as store:
            run = await store.create_run(a_run())
            await store.add_rows(run.id, rows(9), [], mark(9))
            async with anyio.create_task_group() as tasks:
                for request_id in range(1, 10):
                    tasks.start_soon(claim, store, request_id)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
    assert ask(database, "SELECT count(*) FROM request WHERE state = 'submitting'") == [(9,)]


async def test_a_closed_store_refuses_writes(database: Path) -> None:
    async with SqliteStore.open(database) as store:
        pass
    with pytest.raises(StoreError, match="closed already"):
        await store.create_run(a_run())


async def test_closing_leaves_one_file(database: Path) -> None:
    async with SqliteStore.open(database) as store:
        await store.create_run(a_run())
    assert [path.name for path in database.parent.iterdir()] == [database.name]


# ── locks, full disks, files without permission ────────────────────────────────────────────────────────────────


async def test_a_lock_that_ends_in_time_is_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_harness(database) as harness, anyio.create_task_group() as tasks:
        with locked(database):
            tasks.start_soon(harness.add, 3)
            await anyio.sleep(0.1)
            assert await harness.states() == {}  # readers do not wait
        await harness.flush()
        assert await harness.states() == {State.PENDING: 3}


async def test_a_lock_that_stays_is_an_error_and_the_store_continues_after_it(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_harness(database, lock_timeout_s=0.0) as harness:
        with locked(database), pytest.raises(StoreError, match="another program keeps the database locked") as raised:
            await harness.store.add_rows(harness.run.id, rows(3), [], mark(3))
        assert raised.value.where == str(database)
        await harness.add(3)
        assert await harness.states() == {State.PENDING: 3}


async def test_a_lock_that_stays_is_waited_for_once(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_harness(database, lock_timeout_s=1.0) as harness:
        with locked(database):
            began = time.monotonic()
            for name in ("one", "two", "three"):
                with pytest.raises(StoreError, match="another program keeps the database locked"):
                    await harness.store.remember(name, b"")
            assert 1.0 <= time.monotonic() - began < 3.0  # each for itself would take that
        await harness.store.remember("one", b"")
        with locked(database):
            began = time.monotonic()
            with pytest.raises(StoreError, match="another program keeps the database locked"):
                await harness.store.remember("two", b"")
            assert time.monotonic() - began >= 1.0


async def test_a_lock_is_waited_for_while_opening(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)

    async def open_and_close(timeout_s: float) -> None:
        async with SqliteStore.open(database, lock_timeout_s=timeout_s):
            pass

    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="keeps the database locked"):
            await open_and_close(0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_and_close, 30.0)
            await anyio.sleep(0.1)
            connection.execute("ROLLBACK")


async def test_closing_does_not_wait_long_for_a_lock(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr(writer, "_LOCK_TIMEOUT_WHEN_CLOSING_S", 0.1)
    errors: list[str] = []

    async def claim(store: SqliteStore) -> None:
        with pytest.raises(StoreError) as caught:
            await store.remember("anything", b"")
        errors.append(str(caught.value))

    async with anyio.create_task_group() as tasks, SqliteStore.open(database) as store:
        with locked(database):
            tasks.start_soon(claim, store)
            await anyio.sleep(0.05)
            await store._writer.aclose()
    assert len(errors) == 1


async def test_a_full_disk_fails_what_was_queued_and_loses_nothing_else(database: Path) -> None:
    async with a_harness(database) as harness:
        await harness.add(1)
        connection = connection_of(harness.store)
        await in_thread(connection, lambda raw: raw.execute("PRAGMA max_page_count = 1").fetchall())
        errors: list[str] = []

        async def add(name: str) -> None:
            with pytest.raises(StoreError) as caught:
                await harness.store.remember(name, bytes(500_000))
            errors.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            for name in ("one", "two"):
                tasks.start_soon(add, name)
        assert len(errors) == 2
        assert all(
            "the disk is full" in message and "all that was reported as done is safe" in message for message in errors
        )
        await in_thread(connection, lambda raw: raw.execute("PRAGMA max_page_count = 1000000").fetchall())
        await harness.store.remember("one", bytes(500_000))
        assert await harness.reader.recall("one") == bytes(500_000)
        assert await harness.states() == {State.PENDING: 1}


async def test_a_file_that_became_read_only_is_an_error(database: Path) -> None:
    async with a_harness(database) as harness:
        await in_thread(connection_of(harness.store), lambda raw: raw.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreError, match="cannot be written\n  hint: check the permissions"):
            await harness.store.remember("anything", b"")


async def test_rows_of_an_absent_run_are_refused(harness: Harness) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY constraint failed"):
        await harness.store.add_rows(99, rows(1), [], mark(1))


async def test_our_own_bugs_are_no_store_errors(harness: Harness) -> None:
    with pytest.raises(AttributeError):
        await harness.store.claim("not a claim")  # type: ignore[arg-type]
    assert await harness.states() == {}


async def test_readers_see_whole_transactions_while_the_writer_works(harness: Harness, database: Path) -> None:
    requests = await harness.add(300)
    seen: list[int] = []
    done = anyio.Event()

    async def watch() -> None:
        while not done.is_set():
            async with SqliteReader.open(database) as reader:
                summary = await reader.summary(harness.run.id)
                assert sum(summary.requests.values()) == 300
                # Each success brings its charge and its usage in the same transaction.
                succeeded = summary.requests[State.SUCCEEDED]
                assert summary.cost_pusd == 1_000 * succeeded
                assert summary.usage.total_tokens == 120 * succeeded
                results = [record async for record in reader.results(harness.run.id, [State.SUCCEEDED])]
                assert all(record.cost_pusd == 1_000 and record.output_text for record in results)
                seen.append(succeeded)

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as tasks:
            for request in requests:
                tasks.start_soon(harness.succeed, request)
        done.set()
    assert seen == sorted(seen)
    assert await harness.states() == {State.SUCCEEDED: 300}


async def test_the_log_is_emptied_although_a_reader_closes_last(database: Path) -> None:
    async with a_harness(database) as harness:
        await harness.store.add_rows(harness.run.id, rows(50), [], mark(50))
    async with SqliteReader.open(database) as reader:
        async with SqliteStore.open(database) as store:
            await store.remember("latency", b"learned")
        assert await reader.recall("latency") == b"learned"
    log = database.with_name(database.name + "-wal")
    assert not log.exists() or log.stat().st_size == 0
