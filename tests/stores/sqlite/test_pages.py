"""Pages of rows: every filter and direction gives what reading all rows would give."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.core.states import SETTLED, State
from orchestrator.stores.base import Backend
from orchestrator.stores.pulses import MOST_PULSES, pulse_step
from orchestrator.stores.reads import ResultRecord
from orchestrator.stores.row_pages import Differing, PageReader, RowFilter, RowPlace
from orchestrator.stores.sql.row_page_reader import SqlPageReader
from tests.stores.builders import NOW, Harness, a_run

from .new_database import new_database

pytestmark = pytest.mark.anyio

LONG_S = 60.0


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return new_database(tmp_path / "runs.db")
    from tests.stores.postgres.new_schema import new_schema

    return new_schema()


@pytest.fixture
async def harness(backend: Backend) -> AsyncIterator[Harness]:
    async with backend.open_store() as store, backend.open_view() as reader:
        yield Harness(store, reader, await store.create_run(a_run()))


def pages(harness: Harness) -> PageReader:
    assert isinstance(harness.reader, SqlPageReader)
    return harness.reader


async def fill(harness: Harness) -> None:
    """Forty rows in every state, of two codes, with those of another run between them."""
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other")))
    for start in range(0, 40, 8):
        await other.add(3, start)
        one, two, three, four, five, *_ = await harness.add(8, start)
        await harness.succeed(one, output_text=f"An answer with 100% of {one.key}")
        await harness.fail(two, code="refusal", message="it refuses")
        await harness.fail(three, code="server_error")
        await harness.submit(four)
        await harness.retry(five)
        await harness.store.set_flag(two.id, "check", "", NOW)
        await harness.store.set_flag(five.id, "check", "", NOW)


async def everything(harness: Harness) -> list[ResultRecord]:
    return await harness.results(*State)


def keys(records: list[ResultRecord]) -> list[str]:
    return [record.key for record in records]


FILTERS: dict[str, tuple[RowFilter, Callable[[ResultRecord], bool]]] = {
    "all": (RowFilter(), lambda _: True),
    "failed": (RowFilter(states=(State.FAILED,)), lambda row: row.state is State.FAILED),
    "settled": (RowFilter(states=tuple(SETTLED)), lambda row: row.state in SETTLED),
    "open": (RowFilter(states=(State.SUBMITTED,)), lambda row: row.state is State.SUBMITTED),
    "pending": (RowFilter(states=(State.PENDING,)), lambda row: row.state is State.PENDING),
    "a code": (RowFilter(states=(State.FAILED,), code="refusal"), lambda row: row.code == "refusal"),
    "a code in any state": (RowFilter(code="server_error"), lambda row: row.code == "server_error"),
    "a flag": (RowFilter(flag="check"), lambda row: row.flag == "check"),
    "a flag and a state": (
        RowFilter(flag="check", states=(State.FAILED,)),
        lambda row: row.flag == "check" and row.state is State.FAILED,
    ),
    "a text": (RowFilter(text="ANSWER with 100%"), lambda row: "with 100%" in (row.output_text or "")),
    "a text of failures": (
        RowFilter(text="refuses", states=(State.FAILED,)),
        lambda row: row.message == "it refuses",
    ),
    "a wild card": (RowFilter(text="100_"), lambda _: False),
    "a stage": (RowFilter(stage="main"), lambda _: True),
    "no stage": (RowFilter(stage="second"), lambda _: False),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("limit", [3, 50])
async def test_pages_forward_and_backward_have_every_row_once(harness: Harness, name: str, limit: int) -> None:
    await fill(harness)
    chosen, fits = FILTERS[name]
    expected = [row.key for row in await everything(harness) if fits(row)]
    reader, found, place = pages(harness), [], RowPlace()
    while True:
        page = await reader.row_page(harness.run.id, chosen, place, limit=limit, within_s=LONG_S)
        found += keys([*page.rows])
        if not page.more_after:
            break
        place = RowPlace(request_id=page.rows[-1].request_id)
    assert found == expected
    back: list[str] = []
    place = RowPlace(request_id=10**9, backward=True)
    while True:
        page = await reader.row_page(harness.run.id, chosen, place, limit=limit, within_s=LONG_S)
        back = [*keys([*page.rows]), *back]
        if not page.more_before:
            break
        place = RowPlace(request_id=page.rows[0].request_id, backward=True)
    assert back == expected


async def test_a_search_that_takes_long_says_where_it_continues(harness: Harness) -> None:
    await harness.add(1_200)
    last = (await everything(harness))[-1]
    found, places, place = [], 0, RowPlace()
    while True:
        page = await pages(harness).row_page(harness.run.id, RowFilter(text=last.key), place, limit=50, within_s=0.0)
        found += keys([*page.rows])
        if page.searched_to is None:
            break
        assert page.more_after
        places += 1
        place = RowPlace(request_id=page.searched_to)
    assert found == [last.key]
    assert places >= 2


async def test_a_row_of_a_page_is_the_row_of_the_export(harness: Harness) -> None:
    await fill(harness)
    page = await pages(harness).row_page(harness.run.id, RowFilter(), RowPlace(), limit=100, within_s=LONG_S)
    assert list(page.rows) == await everything(harness)


async def test_a_page_holds_the_beginning_of_a_long_answer(harness: Harness) -> None:
    [row] = await harness.add(1)
    await harness.succeed(row, output_text="x" * 100_000)
    page = await pages(harness).row_page(harness.run.id, RowFilter(), RowPlace(), limit=9, within_s=LONG_S)
    assert len(page.rows[0].output_text or "") < 1_000


async def test_a_run_without_rows_has_an_empty_page(harness: Harness) -> None:
    for chosen, _ in FILTERS.values():
        page = await pages(harness).row_page(harness.run.id, chosen, RowPlace(), limit=9, within_s=LONG_S)
        assert (list(page.rows), page.more_after, page.searched_to) == ([], False, None)


async def test_failures_and_flags_are_counted(harness: Harness) -> None:
    await fill(harness)
    assert await pages(harness).failures_by_code(harness.run.id) == {"refusal": 5, "server_error": 5}
    assert await pages(harness).flags_of_run(harness.run.id) == {"check": 10}
    assert await pages(harness).flags_of_run(harness.run.id + 1) == {}


async def test_runs_come_in_pages_with_their_counts(harness: Harness) -> None:
    await harness.add(2)
    for number in range(3):
        await harness.store.create_run(a_run(f"more-{number}"))
    first = await pages(harness).run_page(before_id=None, limit=3)
    rest = await pages(harness).run_page(before_id=first[-1].run.id, limit=3)
    assert [each.run.name for each in (*first, *rest)] == ["more-2", "more-1", "more-0", "demo"]
    assert rest[0] == await harness.summary()


async def test_the_same_keys_of_two_runs_are_compared(harness: Harness) -> None:
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other")))
    ours, theirs = await harness.add(4), await other.add(3)
    await harness.succeed(ours[0], output_text="same")
    await other.succeed(theirs[0], output_text="same")
    await harness.succeed(ours[1], output_text="one")
    await other.succeed(theirs[1], output_text="other")
    await harness.succeed(ours[2], output_text="one")
    await other.fail(theirs[2])
    both = (harness.run.id, other.run.id)

    async def compared(differing: Differing) -> list[tuple[str, bool]]:
        page = await pages(harness).comparison_page(both, differing, RowPlace(), limit=9, within_s=LONG_S)
        return [(pair.one.key, pair.other is not None) for pair in page.rows]

    assert await compared(Differing.ALL) == [("row-0", True), ("row-1", True), ("row-2", True), ("row-3", False)]
    assert await compared(Differing.ANSWERS) == [("row-1", True), ("row-2", True)]
    assert await compared(Differing.OUTCOMES) == [("row-2", True), ("row-3", False)]


async def test_samples_hold_what_was_stored_then(harness: Harness) -> None:
    rows = await harness.add(3)
    await harness.store.add_pulse(harness.run.id, NOW)
    await harness.flush()
    await harness.succeed(rows[0])
    await harness.fail(rows[1])
    await harness.submit(rows[2])
    await harness.store.add_pulse(harness.run.id, NOW + 10)
    await harness.flush()
    first, second = await pages(harness).pulses(harness.run.id)
    summary = await harness.summary()
    assert (first.at, first.settled, first.failed, first.in_flight) == (NOW, 0, 0, 0)
    assert (second.settled, second.failed, second.in_flight) == (2, 1, 1)
    assert (second.attempts, second.cost_pusd) == (summary.attempts, summary.cost_pusd)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_long_run_keeps_a_part_of_its_samples(harness: Harness, tmp_path: Path) -> None:
    await harness.store.add_pulse(harness.run.id, NOW)
    await harness.flush()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute(
            "WITH RECURSIVE later (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM later WHERE n < 5000) "
            "INSERT INTO pulse SELECT run_id, number + n, at + n, 0, 0, 0, 0, 0, 0, 0 FROM pulse JOIN later"
        )
    await harness.store.add_pulse(harness.run.id, NOW + 5_004)
    await harness.flush()
    taken = await pages(harness).pulses(harness.run.id)
    assert MOST_PULSES // 2 < len(taken) <= MOST_PULSES + 1
    assert {later.at - earlier.at for earlier, later in pairwise(taken)} == {4.0}


def test_the_step_between_samples_doubles() -> None:
    assert [pulse_step(0, last) for last in (0, 1_999, 2_000, 3_999, 4_000, 86_400)] == [1, 1, 2, 2, 4, 64]
