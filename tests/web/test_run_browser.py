"""Reading runs for the pages: by any name, beside the process that works on them, and setting flags."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.errors import RunNotFound, StoreError
from orchestrator.core.states import RunState, State
from orchestrator.stores.row_pages import RowFilter, RowOrder
from orchestrator.stores.sqlite.backend import SqliteBackend
from orchestrator.testing import FakeClock
from tests.stores.builders import NOW, Harness, a_charge, a_run

from .conftest import fill

pytestmark = pytest.mark.anyio


@pytest.fixture
async def browser(harness: Harness, database: Path) -> AsyncIterator[RunBrowser]:
    async with RunBrowser.open(database, clock=FakeClock(NOW)) as browser:
        yield browser


async def test_without_a_database_there_is_nothing_to_browse(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such database"):
        async with RunBrowser.open(tmp_path / "none.db"):
            pass
    assert not (tmp_path / "none.db").exists()


async def test_a_run_is_found_by_its_name_and_by_its_number(browser: RunBrowser, harness: Harness) -> None:
    assert (await browser.run("demo")).id == harness.run.id
    assert (await browser.run_by_id(harness.run.id)).name == "demo"


async def test_an_unknown_run_is_refused_with_the_newest_there_are(browser: RunBrowser, harness: Harness) -> None:
    await harness.store.create_run(a_run("newer"))
    with pytest.raises(RunNotFound) as refused:
        await browser.run("none")
    assert refused.value.hint == "its newest runs: newer, demo"
    for number in (0, -1, harness.run.id + 99, 10**18):
        with pytest.raises(RunNotFound):
            await browser.run_by_id(number)


async def test_a_run_that_no_process_works_on_is_paused(
    browser: RunBrowser, harness: Harness, database: Path
) -> None:
    assert (await browser.summary(harness.run)).run.state is RunState.PAUSED
    with SqliteBackend(database).lock(harness.run.id, harness.run.name):
        assert (await browser.summary(harness.run)).run.state is RunState.ACTIVE
        assert [each.run.state for each in await browser.runs(before_id=None, limit=5)] == [RunState.ACTIVE]
    await harness.store.set_run_state(harness.run.id, RunState.FINISHED, None, NOW)
    assert (await browser.summary(harness.run)).run.state is RunState.FINISHED


async def test_what_another_process_writes_is_seen_at_once(browser: RunBrowser, harness: Harness) -> None:
    [row] = await harness.add(1)
    assert (await browser.summary(harness.run)).requests.pending == 1
    await harness.succeed(row)
    assert (await browser.summary(harness.run)).requests.succeeded == 1


async def test_the_history_of_a_row_has_all_its_attempts(browser: RunBrowser, harness: Harness) -> None:
    [row] = await harness.add(1)
    await harness.retry(row)
    await harness.succeed(row)
    history = await browser.history(harness.run, "main", row.key)
    assert [attempt.number for attempt in history.attempts] == [1, 2]
    assert history.request.state is State.SUCCEEDED
    for stage, key in (("main", "none"), ("other", row.key)):
        with pytest.raises(RunNotFound):
            await browser.history(harness.run, stage, key)


async def test_a_flag_is_set_beside_the_writer_of_the_run(browser: RunBrowser, harness: Harness) -> None:
    first, second = await harness.add(2)
    assert await browser.set_flag(first.id, "check", "odd")
    # The writer of the run goes its way.
    await harness.succeed(second)
    assert await browser.quick.flags_of_run(harness.run.id) == {"check": 1}
    assert await browser.set_flag(first.id, None, "")
    assert await browser.quick.flags_of_run(harness.run.id) == {}
    assert not await browser.set_flag(99_999, "check", "")


async def test_readers_of_pages_and_of_sums_do_not_wait_for_each_other(browser: RunBrowser) -> None:
    assert browser.quick is not browser.slow


# ── the highest rows ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_highest_rows_come_first_and_ties_in_the_order_of_the_input(
    browser: RunBrowser, harness: Harness
) -> None:
    costs = [5, 9, 1, 9, 7]
    for row, cost in zip(await harness.add(5), costs, strict=True):
        await harness.succeed(row, charge=a_charge(cost))
    found = await browser.slow.top_rows(harness.run.id, RowFilter(), RowOrder.COST, limit=4)
    assert [(row.key, row.cost_pusd) for row in found] == [("row-1", 9), ("row-3", 9), ("row-4", 7), ("row-0", 5)]


async def test_all_attempts_of_a_row_count_for_its_cost(browser: RunBrowser, harness: Harness) -> None:
    first, second = await harness.add(2)
    await harness.end(first, await harness.submit(first), State.PENDING, charge=a_charge(4))
    await harness.succeed(first, charge=a_charge(4))
    await harness.succeed(second, charge=a_charge(6))
    found = await browser.slow.top_rows(harness.run.id, RowFilter(), RowOrder.COST, limit=4)
    assert [(row.key, row.cost_pusd) for row in found] == [("row-0", 8), ("row-1", 6)]


@pytest.mark.parametrize("order", RowOrder)
async def test_the_highest_rows_keep_to_the_filter(browser: RunBrowser, harness: Harness, order: RowOrder) -> None:
    await fill(harness)
    await harness.store.set_flag((await harness.request("row-3")).id, "check", "", NOW)
    filters = {
        "row-0": RowFilter(states=(State.FAILED,), code="refusal", stage="main", text="does not want"),
        "row-3": RowFilter(flag="check"),
        "row-2": RowFilter(text="answer to row-2"),
    }
    for key, chosen in filters.items():
        found = await browser.slow.top_rows(harness.run.id, chosen, order, limit=9)
        assert [row.key for row in found] == [key]
    assert await browser.slow.top_rows(harness.run.id, RowFilter(stage="none"), order, limit=9) == []
