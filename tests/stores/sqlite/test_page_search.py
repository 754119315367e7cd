"""Searches of random filters in random runs, against reading every row."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.states import State
from orchestrator.stores.reads import ResultRecord
from orchestrator.stores.row_pages import RowFilter, RowPlace
from orchestrator.stores.sqlite.sqlite_pages import SqlitePageReader
from tests.stores.builders import NOW, Harness, a_run

from .new_database import new_database

# What each row becomes: its end, its code and its flag.
ENDS = st.sampled_from(["succeeded", "failed", "open", "doubt", "waits"])
ROWS = st.lists(st.tuples(ENDS, st.sampled_from(["a%", "b_"]), st.sampled_from([None, "x", "y"])), max_size=12)
FILTERS = st.builds(
    RowFilter,
    states=st.none() | st.lists(st.sampled_from(list(State)), min_size=1, max_size=3, unique=True).map(tuple),
    code=st.sampled_from([None, None, "a%", "b_"]),
    flag=st.sampled_from([None, None, "x", "y", "none"]),
    stage=st.sampled_from([None, None, "main", "other"]),
    text=st.sampled_from([None, None, "%", "_", "a%", "ROW-1", "Words", "\\"]),
)


def fits(row: ResultRecord, chosen: RowFilter) -> bool:
    """Whether a row fits a filter, said in plain Python."""
    texts = [text.lower() for text in (row.key, row.code, row.message, row.output_text) if text]
    return (
        (chosen.states is None or row.state in chosen.states)
        and chosen.code in (None, row.code)
        and chosen.flag in (None, row.flag)
        and chosen.stage in (None, row.stage)
        and (chosen.text is None or any(chosen.text.lower() in text for text in texts))
    )


@given(ends=ROWS, chosen=FILTERS, limit=st.integers(1, 5))
def test_pages_have_what_reading_every_row_finds(
    ends: list[tuple[str, str, str | None]], chosen: RowFilter, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = new_database(Path(folder) / "runs.db")

        async def compare() -> None:
            async with backend.open_store() as store, backend.open_view() as reader:
                harness = Harness(store, reader, await store.create_run(a_run()))
                await _fill(harness, ends)
                expected = [row.key for row in await harness.results() if fits(row, chosen)]
                assert await _forward(reader, harness.run.id, chosen, limit) == expected
                assert await _backward(reader, harness.run.id, chosen, limit) == expected

        anyio.run(compare)


async def _fill(harness: Harness, ends: list[tuple[str, str, str | None]]) -> None:
    for row, (end, code, flag) in zip(await harness.add(len(ends)), ends, strict=True):
        match end:
            case "succeeded":
                await harness.succeed(row, output_text=f"Words of {code}")
            case "failed":
                await harness.fail(row, code=code, message="It failed.")
            case "open":
                await harness.submit(row)
            case "doubt":
                await harness.lose(row, code=code)
        if flag is not None:
            await harness.store.set_flag(row.id, flag, "", NOW)


async def _forward(reader: SqlitePageReader, run_id: int, chosen: RowFilter, limit: int) -> list[str]:
    keys: list[str] = []
    place = RowPlace()
    while True:
        page = await reader.row_page(run_id, chosen, place, limit=limit, within_s=60)
        keys += [row.key for row in page.rows]
        if not page.more_after:
            return keys
        place = RowPlace(request_id=page.rows[-1].request_id)


async def _backward(reader: SqlitePageReader, run_id: int, chosen: RowFilter, limit: int) -> list[str]:
    keys: list[str] = []
    place = RowPlace(request_id=10**12, backward=True)
    while True:
        page = await reader.row_page(run_id, chosen, place, limit=limit, within_s=60)
        keys = [row.key for row in page.rows] + keys
        if not page.more_before:
            return keys
        place = RowPlace(request_id=page.rows[0].request_id, backward=True)
