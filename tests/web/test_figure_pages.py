"""The pages of sums: nights of a dataset, stages with and without requests, sums that take a while, two runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.increments import Change, Changes
from orchestrator.core.states import RunState
from orchestrator.testing import FakeClock
from orchestrator.web.application import create_view
from orchestrator.web.page_context import PageContext
from tests.stores.builders import NOW, Harness, a_charge, a_row, a_run, mark

from .conftest import BASE, SPEC, TOKEN, fill, visitor

pytestmark = pytest.mark.anyio


async def a_night(harness: Harness, name: str, changes: Changes) -> Harness:
    """A run that adds to the dataset ``reviews``."""
    store = harness.store
    night = Harness(store, harness.reader, await store.create_run(a_run(name, spec_json=SPEC)))
    dataset_id = await store.open_dataset("reviews", simulated=False)
    await store.begin_night(night.run.id, dataset_id)
    await store.count_changes(night.run.id, changes)
    return night


async def test_the_nights_of_a_dataset_are_a_grid_the_newest_first(harness: Harness, database: Path) -> None:
    first = await a_night(harness, "night-1", Changes({Change.NEW: 3}))
    for row in await first.add(3):
        await first.succeed(row, charge=a_charge(2_000_000))
    second = await a_night(harness, "night-2", Changes({Change.UNCHANGED: 2, Change.CHANGED: 1}))
    [row] = await second.add(1)
    await second.fail(row)
    async with visitor(database) as client:
        shown = (await client.get("/dataset.json?name=reviews")).json()
        assert shown["changes"] == ["new", "changed", "unchanged", "removed"]
        assert [night["run"] for night in shown["nights"]] == ["night-2", "night-1"]
        assert [night["failed"] for night in shown["nights"]] == [1, 0]
        assert [night["changes"]["new"] for night in shown["nights"]] == [0, 3]
        assert shown["nights"][1]["cost_usd"] == "0.000006"
        page = (await client.get("/dataset?name=reviews")).text
        assert page.index("night-2") < page.index("night-1")
        assert "/dataset?name=reviews" in (await client.get("/")).text


async def test_a_dataset_without_nights_says_so(harness: Harness, client: httpx.AsyncClient) -> None:
    await harness.store.open_dataset("reviews", simulated=False)
    assert "No run has added" in (await client.get("/dataset?name=reviews")).text


async def test_a_run_of_a_dataset_shows_what_changed(harness: Harness, database: Path) -> None:
    await a_night(harness, "night-1", Changes({Change.NEW: 3, Change.REMOVED: 2}))
    async with visitor(database) as client:
        assert (await client.get("/run/night-1.json")).json()["changes"]["removed"] == 2
        assert "<b>2</b> removed" in (await client.get("/run/night-1")).text


async def test_a_stage_without_a_request_only_makes_rows(harness: Harness, database: Path) -> None:
    stages = {"split": {"from": "input", "rows": "a:b"}, "read": {"from": "split", "request": {"model": "m"}}}
    spec = json.dumps({"name": "digest", "stages": stages})
    staged = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("staged", spec_json=spec)))
    await staged.store.add_rows(staged.run.id, [a_row(0, stage="read")], [], mark(1, complete=True))
    async with visitor(database) as client:
        shown = (await client.get("/run/staged/stages.json")).json()["stages"]
        assert [(each["name"], each["asks"], each["requests"]) for each in shown] == [
            ("split", False, 0),
            ("read", True, 1),
        ]
        assert "only makes rows" in (await client.get("/run/staged/stages")).text
        rows = (await client.get("/run/staged/rows.json?stage=read")).json()
        assert [row["stage"] for row in rows["rows"]] == ["read"]
        # The row is found although its key may be in several stages.
        assert (await client.get(rows["rows"][0]["page"])).status_code == 200


async def test_a_stage_of_any_name_is_shown_as_text(harness: Harness, database: Path) -> None:
    name = "<b>\u202ename</b>"
    spec = json.dumps({"name": "digest", "stages": {name: {"from": "input", "request": {}}}})
    await harness.store.create_run(a_run("staged", spec_json=spec))
    async with visitor(database) as client:
        page = (await client.get("/run/staged/stages")).text
        assert "&lt;b&gt;⟨U+202E⟩name&lt;/b&gt;" in page


# ── what takes a while ──────────────────────────────────────────────────────────────────────────────────────────


class SlowCosts:
    """Lets the costs of a run wait until they are allowed."""

    def __init__(self, browser: RunBrowser) -> None:
        self.allowed = asyncio.Event()
        self._costs = browser.slow.costs
        browser.slow.costs = self._wait  # type: ignore[method-assign]

    async def _wait(self, *arguments: Any, **names: Any) -> Any:
        await self.allowed.wait()
        return await self._costs(*arguments, **names)


async def test_a_page_of_costs_does_not_wait_and_is_loaded_again(harness: Harness, database: Path) -> None:
    await fill(harness)
    async with RunBrowser.open(database, clock=FakeClock(NOW)) as browser:
        slow = SlowCosts(browser)
        context = PageContext(browser=browser)
        transport = httpx.ASGITransport(create_view(context, token=TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            await client.get(f"/?token={TOKEN}")
            early = await client.get("/run/demo/costs")
            assert early.headers["refresh"] == "1"
            assert "Adding up" in early.text
            # The sum of the run is known without it.
            assert "exactly $" in early.text
            slow.allowed.set()
            late = await client.get("/run/demo/costs.json")
            assert late.json()["is_current"] is True
            page = await client.get("/run/demo/costs")
            assert "refresh" not in page.headers
            assert "Total" in page.text
        await context.figures.aclose()


async def test_costs_of_several_groupings_are_kept_apart(harness: Harness, client: httpx.AsyncClient) -> None:
    await fill(harness)
    by_model = (await client.get("/run/demo/costs.json?by=model")).json()
    by_state = (await client.get("/run/demo/costs.json?by=state")).json()
    assert by_model["costs"]["by"] == ["model"]
    assert by_state["costs"]["by"] == ["state"]
    assert by_model["costs"]["total"] == by_state["costs"]["total"]


# ── two runs ────────────────────────────────────────────────────────────────────────────────────────────────────


async def two_runs(harness: Harness, rows: int) -> Harness:
    """The same rows in ``demo`` and in ``other``; every third answer differs, the last two rows only one run has."""
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other", spec_json=SPEC)))
    for run, count in ((harness, rows), (other, rows - 2)):
        for number, row in enumerate(await run.add(count)):
            text = f"Answer {number}" + (f" of {run.run.name}" if number % 3 == 0 else "")
            await run.succeed(row, output_text=text, charge=a_charge(1_000_000 if run is other else 3_000_000))
    return other


async def test_a_comparison_comes_in_pages_that_keep_their_filter(harness: Harness, database: Path) -> None:
    await two_runs(harness, 40)
    async with visitor(database) as client:
        keys, query = [], "?a=demo&b=other&only=answers"
        while query:
            shown = (await client.get(f"/compare.json{query}")).json()
            keys += [pair["key"] for pair in shown["rows"]]
            query = shown["later"] or ""
            assert not query or "only=answers" in query
        assert keys == [f"row-{n}" for n in range(40) if n % 3 == 0 or n >= 38]
        assert shown["earlier"] is not None


async def test_a_comparison_has_the_differences_of_cost_and_tokens(harness: Harness, database: Path) -> None:
    await two_runs(harness, 4)
    async with visitor(database) as client:
        shown = (await client.get("/compare.json?a=demo&b=other")).json()
        first, *_, last = shown["rows"]
        assert (first["cost_usd"], first["tokens"]) == ("-0.000002", 0)
        assert (last["b"], last["pieces"], last["cost_usd"]) == (None, None, None)
        page = (await client.get("/compare?a=demo&b=other")).text
        assert "−$0.000002" in page
        assert "no row with this key" in page
        swapped = (await client.get(f"/compare.json{shown['swapped']}")).json()
        assert (swapped["a"]["run"], swapped["b"]["run"]) == ("other", "demo")
        assert len(swapped["rows"]) == 2


async def test_rows_of_which_only_one_succeeded_are_compared(harness: Harness, database: Path) -> None:
    other = await two_runs(harness, 4)
    extra = (await other.add(1, 2))[-1]
    await other.fail(extra, code="refusal")
    async with visitor(database) as client:
        shown = (await client.get("/compare.json?a=demo&b=other&only=outcomes")).json()
        assert [pair["key"] for pair in shown["rows"]] == ["row-2", "row-3"]
        page = (await client.get("/compare?a=demo&b=other&only=outcomes")).text
        assert "There is no answer" in page


async def test_a_long_answer_is_compared_up_to_a_length(harness: Harness, database: Path) -> None:
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other", spec_json=SPEC)))
    for run, word in ((harness, "one "), (other, "two ")):
        [row] = await run.add(1)
        await run.succeed(row, output_text=word * 100_000)
    async with visitor(database) as client:
        page = await client.get("/compare?a=demo&b=other")
        assert len(page.content) < 100_000
        assert page.text.count(" …</pre>") == 2


async def test_a_run_that_ended_shows_its_average_speed(harness: Harness, client: httpx.AsyncClient) -> None:
    from orchestrator.stores.writes import Counts

    await fill(harness)
    await harness.store.add_counts(harness.run.id, Counts(polls=5, elapsed_s=2.0))
    await harness.store.set_run_state(harness.run.id, RunState.FINISHED, None, NOW)
    shown = (await client.get("/run/demo.json")).json()
    assert shown["rows_per_s"] == 2.0
    assert shown["seconds_left"] is None
    assert "2.0 rows/s" in (await client.get("/run/demo")).text
