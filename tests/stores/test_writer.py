"""The writer: groups, errors, cancelled callers, locks, closing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.core.states import State
from orchestrator.stores.base import Store
from orchestrator.stores.sqlite import SqliteReader, SqliteStore, writer
from orchestrator.stores.sqlite import database as database_module
from orchestrator.stores.sqlite.database import in_thread
from orchestrator.stores.writes import Counts

from .builders import Desk, a_charge, a_claim, a_run, ask, mark, rows

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_desk(database: Path, *, lock_timeout_s: float = 30.0) -> AsyncIterator[Desk]:
    async with (
        SqliteStore.open(database, lock_timeout_s=lock_timeout_s) as store,
        SqliteReader.open(database) as reader,
    ):
        yield Desk(store, reader, await store.create_run(a_run()))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program in the middle of a write."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def commits_of(store: Store) -> list[str]:
    """Grows by one with each transaction from here on."""
    assert isinstance(store, SqliteStore)
    commits: list[str] = []

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)

    await in_thread(store._writer._connection, watch)
    return commits


async def claim(store: Store, request_id: int) -> None:
    await store.claim(a_claim(request_id))


async def claim_all(store: Store, request_ids: Iterable[int]) -> None:
    async with anyio.create_task_group() as tasks:
        for request_id in request_ids:
            tasks.start_soon(claim, store, request_id)


async def test_what_is_queued_together_is_committed_together(desk: Desk) -> None:
    requests = await desk.add(300)
    commits = await commits_of(desk.store)
    await claim_all(desk.store, [request.id for request in requests])
    assert len(commits) <= 2


async def test_where_many_write_a_commit_is_followed_by_a_delay_in_which_more_gather(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but closing ends the delay here."""
    monkeypatch.setattr(writer, "_COMMIT_DELAY_S", 3600.0)
    async with anyio.create_task_group() as tasks, a_desk(database) as desk:
        await desk.add(9)
        commits = await commits_of(desk.store)
        await claim_all(desk.store, range(1, 6))
        for request_id in range(6, 10):
            tasks.start_soon(claim, desk.store, request_id)
            await anyio.wait_all_tasks_blocked()
        assert len(commits) == 1
    assert len(commits) == 2
    assert ask(database, "SELECT count(*) FROM request WHERE state = 'submitting'") == [(9,)]


async def test_who_writes_alone_waits_for_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_COMMIT_DELAY_S", 3600.0)
    with anyio.fail_after(30):
        for request in await desk.add(3):
            await desk.claim(request)


async def test_one_refused_write_does_not_harm_the_others(desk: Desk) -> None:
    requests = await desk.add(20)
    refused: list[tuple[int, bool]] = []

    async def claim(number: int) -> None:
        worst_case = -1 if number == 7 else 5
        try:
            await desk.store.claim(a_claim(requests[number].id, worst_case_pusd=worst_case))
        except StoreError as error:
            refused.append((number, "CHECK constraint failed" in str(error)))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(claim, number)
    assert refused == [(7, True)]
    assert await desk.states() == {State.PENDING: 1, State.SUBMITTING: 19}
    assert (await desk.reader.summary(desk.run.id)).reserved_pusd == 95


async def test_a_price_that_was_rolled_back_is_made_again(desk: Desk, database: Path) -> None:
    first, second = await desk.add(2)
    attempts = [await desk.submit(request) for request in (first, second)]
    with pytest.raises(StoreError, match="CHECK constraint"):
        await desk.end(first, attempts[0], State.SUCCEEDED, charge=a_charge(-1))
    assert await desk.end(second, attempts[1], State.SUCCEEDED)
    [attempt] = await desk.reader.attempts(second.id)
    assert attempt.charge == a_charge()
    assert await desk.states() == {State.SUBMITTED: 1, State.SUCCEEDED: 1}


async def test_a_cancelled_caller_leaves_its_write_to_be_done(desk: Desk) -> None:
    [request] = await desk.add(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await desk.store.claim(a_claim(request.id))
    assert scope.cancelled_caught
    await desk.store.remember("anything that is waited for", b"")
    [open_] = await desk.reader.open_attempts(desk.run.id)
    assert open_.request_id == request.id


async def test_notes_are_written_soon_without_anybody_waiting(desk: Desk, database: Path) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    await desk.store.note_status(attempt_id, "in_progress")
    with anyio.fail_after(10):
        while ask(database, "SELECT status FROM attempt") != [("in_progress",)]:  # noqa: ASYNC110  # nothing tells
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
    monkeypatch.setattr(writer, "_GROUP", 2)
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


async def test_a_closed_store_says_so(database: Path) -> None:
    async with SqliteStore.open(database) as store:
        pass
    with pytest.raises(StoreError, match="closed already"):
        await store.create_run(a_run())


async def test_closing_leaves_one_file(database: Path) -> None:
    async with SqliteStore.open(database) as store:
        await store.create_run(a_run())
    assert [path.name for path in database.parent.iterdir()] == [database.name]


# ── trouble ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lock_that_is_given_up_in_time_is_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_desk(database) as desk, anyio.create_task_group() as tasks:
        with locked(database):
            tasks.start_soon(desk.add, 3)
            await anyio.sleep(0.1)
            assert await desk.states() == {}  # readers are not held up
        await desk.store.remember("anything that is waited for", b"")
        assert await desk.states() == {State.PENDING: 3}


async def test_a_lock_that_stays_is_told_and_the_store_goes_on_after_it(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_desk(database, lock_timeout_s=0.0) as desk:
        with locked(database), pytest.raises(StoreError, match="another program keeps the database locked") as told:
            await desk.store.add_rows(desk.run.id, rows(3), [], mark(3))
        assert told.value.where == str(database)
        await desk.add(3)
        assert await desk.states() == {State.PENDING: 3}


async def test_a_lock_that_stays_is_waited_for_once(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)
    async with a_desk(database, lock_timeout_s=0.5) as desk:
        with locked(database):
            began = time.monotonic()
            for name in ("one", "two", "three"):
                with pytest.raises(StoreError, match="another program keeps the database locked"):
                    await desk.store.remember(name, b"")
            assert 0.5 <= time.monotonic() - began < 1.4
        await desk.store.remember("one", b"")
        with locked(database):
            began = time.monotonic()
            with pytest.raises(StoreError, match="another program keeps the database locked"):
                await desk.store.remember("two", b"")
            assert time.monotonic() - began >= 0.5


async def test_a_lock_met_while_opening_is_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 1)

    async def open_and_close(patience_s: float) -> None:
        async with SqliteStore.open(database, lock_timeout_s=patience_s):
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
    monkeypatch.setattr(writer, "_PATIENCE_WHEN_CLOSING_S", 0.1)
    told: list[str] = []

    async def claim(store: SqliteStore) -> None:
        with pytest.raises(StoreError) as caught:
            await store.remember("anything", b"")
        told.append(str(caught.value))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, SqliteStore.open(database) as store:
            with locked(database):
                tasks.start_soon(claim, store)
                await anyio.sleep(0.05)
                await store._writer.aclose()
    assert len(told) == 1


async def test_a_full_disk_fails_all_that_was_queued_and_loses_nothing_else(database: Path) -> None:
    async with a_desk(database) as desk:
        await desk.add(1)
        assert isinstance(desk.store, SqliteStore)
        connection = desk.store._writer._connection
        await in_thread(connection, lambda raw: raw.execute("PRAGMA max_page_count = 1").fetchall())
        told: list[str] = []

        async def add(name: str) -> None:
            with pytest.raises(StoreError) as caught:
                await desk.store.remember(name, bytes(500_000))
            told.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            for name in ("one", "two"):
                tasks.start_soon(add, name)
        assert len(told) == 2
        assert all(
            "the disk is full" in message and "all that was reported as done is safe" in message for message in told
        )
        await in_thread(connection, lambda raw: raw.execute("PRAGMA max_page_count = 1000000").fetchall())
        await desk.store.remember("one", bytes(500_000))
        assert await desk.reader.recall("one") == bytes(500_000)
        assert await desk.states() == {State.PENDING: 1}


async def test_a_file_that_became_read_only_is_told(database: Path) -> None:
    async with a_desk(database) as desk:
        assert isinstance(desk.store, SqliteStore)
        await in_thread(desk.store._writer._connection, lambda raw: raw.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreError, match="cannot be written\n  hint: check the permissions"):
            await desk.store.remember("anything", b"")


async def test_what_belongs_to_nothing_is_refused(desk: Desk) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY constraint failed"):
        await desk.store.add_rows(99, rows(1), [], mark(1))


async def test_our_own_mistakes_are_not_blamed_on_the_database(desk: Desk) -> None:
    with pytest.raises(AttributeError):
        await desk.store.claim("not a claim")  # type: ignore[arg-type]
    assert await desk.states() == {}


async def test_readers_see_whole_transactions_while_the_writer_works(desk: Desk, database: Path) -> None:
    requests = await desk.add(300)
    seen: list[int] = []
    done = anyio.Event()

    async def watch() -> None:
        while not done.is_set():
            async with SqliteReader.open(database) as reader:
                summary = await reader.summary(desk.run.id)
                assert sum(summary.requests.values()) == 300
                # Each success brings its charge and its usage in the same transaction.
                succeeded = summary.requests[State.SUCCEEDED]
                assert summary.cost_pusd == 1_000 * succeeded
                assert summary.usage.total_tokens == 120 * succeeded
                results = [record async for record in reader.results(desk.run.id, [State.SUCCEEDED])]
                assert all(record.cost_pusd == 1_000 and record.output_text for record in results)
                seen.append(succeeded)

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as tasks:
            for request in requests:
                tasks.start_soon(desk.succeed, request)
        done.set()
    assert seen == sorted(seen)
    assert await desk.states() == {State.SUCCEEDED: 300}


async def test_the_log_is_emptied_although_a_reader_closes_last(database: Path) -> None:
    async with a_desk(database) as desk:
        await desk.store.add_rows(desk.run.id, rows(50), [], mark(50))
    async with SqliteReader.open(database) as reader:
        async with SqliteStore.open(database) as store:
            await store.remember("lesson", b"learnt")
        assert await reader.recall("lesson") == b"learnt"
    log = database.with_name(database.name + "-wal")
    assert not log.exists() or log.stat().st_size == 0
