"""A copy has the same rows, and is worked on as the original would be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import RunBusy, StoreError, UsageError
from orchestrator.core.model import SkippedRow
from orchestrator.core.states import State
from orchestrator.stores.base import Backend
from orchestrator.stores.database_copy import copy_database
from orchestrator.stores.sqlite import sqlite_tables
from orchestrator.stores.sqlite.backend import SqliteBackend

from .builders import NOW, Harness, a_row, a_run, an_unknown_charge, mark
from .sqlite.audit import audit
from .sqlite.new_database import new_database

pytestmark = pytest.mark.anyio


def _sqlite(folder: Path) -> Backend:
    return SqliteBackend(folder / "between.db")


def _postgres(_: Path) -> Backend:
    from .postgres.new_schema import new_schema

    return new_schema()


@pytest.fixture(params=[_sqlite, pytest.param(_postgres, marks=pytest.mark.services)], ids=["sqlite", "postgres"])
def between(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    make: Callable[[Path], Backend] = request.param
    return make(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Backend:
    return new_database(tmp_path / "source.db")


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with closing(sqlite3.connect(path)) as connection:
        tables = sqlite_tables.SqliteTables(connection)
        return {
            name: sorted(map(tuple, tables.rows(name, columns)), key=repr)
            for name, columns in tables.columns().items()
        }


async def filled(backend: Backend) -> Backend:
    """A database with what is unusual: NUL, long rows, chains of numbers and texts, unknown costs, learned values."""
    async with backend.open_store() as store, backend.open_reader() as reader:
        for name in ("demo", "other"):
            run = await store.create_run(a_run(name))
            harness = Harness(store, reader, run)
            long = b'{"text": "' + b"many words, " * 6_000 + b'"}'
            chained = [
                a_row(n, key=f"turn-{n}", chain="talk", place=place)
                for n, place in enumerate([2, "b", 1.5, "a", None])
            ]
            await store.add_rows(run.id, [a_row(9, row=long), a_row(10, row=b"[1]"), a_row(11)], [], mark(12))
            await store.add_rows(run.id, chained, [SkippedRow(position=20, where="x:21", reason="bad")], mark(21))
            one, two, three = await harness.fresh()
            await harness.succeed(one, output_text="nul \0 inside, \uf8ff, ünïcödé, \\x41")
            await harness.fail(two, charge=an_unknown_charge(7_000), code="failed")
            await harness.lose(three)
            await store.remember(f"latency-{name}", bytes(range(256)))
            await store.link_chains(run.id, NOW)
    return backend


async def test_a_copy_and_its_copy_are_the_same(source: Backend, between: Backend, tmp_path: Path) -> None:
    await filled(source)
    copied = await copy_database(source, between)
    assert (copied.rows["run"], copied.rows["request"], copied.cost_pusd) == (2, 16, 2 * 1_000)
    await copy_database(between, SqliteBackend(tmp_path / "back.db"))
    assert content(tmp_path / "back.db") == content(tmp_path / "source.db")
    audit(tmp_path / "back.db")


async def test_a_copy_is_worked_on_as_the_original(source: Backend, between: Backend) -> None:
    await copy_database(await filled(source), between)
    async with between.open_store() as store, between.open_reader() as reader:
        run = await reader.run("demo")
        assert run is not None
        harness = Harness(store, reader, run)
        assert await harness.requeue(State.FAILED, in_doubt="resend") == 2
        for request in await harness.fresh():
            await harness.succeed(request)
        later = await store.create_run(a_run("later"))
        assert later.id == 3
        assert len(await Harness(store, reader, later).add(2)) == 2


async def test_a_database_with_runs_is_not_written_to(source: Backend, between: Backend) -> None:
    await filled(source)
    async with between.open_store() as store:
        await store.create_run(a_run("mine"))
    with pytest.raises(UsageError, match="has runs already"):
        await copy_database(source, between)
    async with between.open_reader() as reader:
        assert [run.name for run in await reader.runs()] == ["mine"]


async def test_a_run_at_work_is_not_copied(source: Backend, between: Backend) -> None:
    await filled(source)
    with source.lock(1, "demo"), pytest.raises(RunBusy, match="'demo' is locked"):
        await copy_database(source, between)


async def test_a_copy_that_differs_is_taken_back(
    source: Backend, between: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(source)
    rows = sqlite_tables.SqliteTables.rows

    def losing(self: sqlite_tables.SqliteTables, table: str, columns: Any) -> Any:
        found = list(rows(self, table, columns))
        return iter(found[1:] if table == "charge" else found)

    monkeypatch.setattr(sqlite_tables.SqliteTables, "rows", losing)
    with pytest.raises(StoreError, match=r"the copy of charge has 3 rows .* not 4 .*; nothing was copied"):
        await copy_database(source, between)
    async with between.open_reader() as reader:
        assert await reader.runs() == []


async def test_a_database_is_not_copied_to_itself(source: Backend) -> None:
    await filled(source)
    with pytest.raises(UsageError, match="cannot be copied to itself"):
        await copy_database(source, source)
