"""What every store promises about datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.errors import RunBusy
from orchestrator.core.increments import Change, Changes, ComparedRow, NotedChange
from orchestrator.core.states import State
from orchestrator.stores.base import Backend
from orchestrator.stores.datasets import KeptRequest, NightRecord
from orchestrator.stores.reads import Run

from .builders import NOW, Harness, a_run, mark, rows

pytestmark = pytest.mark.anyio


def asks(row: str, stage: str = "s", request: str | None = None) -> ComparedRow:
    return ComparedRow(
        row_hash=row.encode(), stage_hash=stage.encode(), request_hash=(request or row + stage).encode()
    )


async def plan_night(
    harness: Harness, name: str, texts: dict[int, str], *, dataset: str = "texts", stage: str = "s", as_of: int = 0
) -> tuple[Run, int]:
    """A run that asks the rows of the given numbers."""
    run = await harness.store.create_run(a_run(name))
    dataset_id = await harness.store.open_dataset(dataset, simulated=False)
    await harness.store.begin_night(run.id, dataset_id, as_of=as_of)
    noted = [NotedChange(key=f"row-{each}", change=Change.NEW, row=asks(text, stage)) for each, text in texts.items()]
    await harness.store.note_changes(run.id, noted)
    planned = [row for row in rows(10) if row.position in texts]
    await harness.store.add_rows(run.id, planned, [], mark(10, complete=True))
    return run, dataset_id


async def settle(harness: Harness, run: Run, *, failed: tuple[int, ...] = (), at: float = NOW) -> None:
    """Every pending row of a run gets an answer, or fails."""
    night = replace(harness, run=run)
    for pending in await night.fresh():
        if pending.key in {f"row-{each}" for each in failed}:
            await night.fail(pending, code="server_error", at=at)
        else:
            await night.succeed(pending, at=at)


async def the_entries(harness: Harness, dataset_id: int) -> dict[str, Any]:
    found = await harness.reader.entries(dataset_id, [f"row-{each}" for each in range(10)])
    return {
        key: (entry.row.row_hash.decode(), entry.answered_at, entry.failed_nights) for key, entry in found.items()
    }


async def test_a_dataset_is_made_once_and_those_of_the_sandbox_are_apart(harness: Harness) -> None:
    first = await harness.store.open_dataset("texts", simulated=False)
    assert await harness.store.open_dataset("texts", simulated=False) == first
    assert await harness.store.open_dataset("texts", simulated=True) != first
    assert await harness.reader.dataset("others", simulated=False) is None
    assert [(each.name, each.simulated, each.rows) for each in await harness.reader.datasets()] == [
        ("texts", False, 0),
        ("texts", True, 0),
    ]


async def test_answers_and_failures_are_gathered_and_may_be_gathered_again(harness: Harness) -> None:
    run, dataset_id = await plan_night(harness, "one", {0: "a", 1: "b", 2: "c"})
    await harness.store.gather(run.id)
    assert await the_entries(harness, dataset_id) == {}
    await settle(harness, run, failed=(1,), at=NOW + 5)
    for _ in range(2):
        await harness.store.gather(run.id)
        expected = {"row-0": ("a", NOW + 5, 0), "row-1": ("b", None, 1), "row-2": ("c", NOW + 5, 0)}
        assert await the_entries(harness, dataset_id) == expected
    results = [each async for each in harness.reader.dataset_results(dataset_id)]
    assert [(each.key, each.state) for each in results] == [
        ("row-0", State.SUCCEEDED),
        ("row-1", State.FAILED),
        ("row-2", State.SUCCEEDED),
    ]


async def test_a_later_run_replaces_what_an_earlier_one_said_and_never_the_reverse(harness: Harness) -> None:
    first, dataset_id = await plan_night(harness, "one", {0: "a", 1: "b"})
    second, _ = await plan_night(harness, "two", {0: "new"})
    await settle(harness, second, at=NOW + 9)
    await settle(harness, first, at=NOW + 20)
    await harness.store.gather(second.id)
    await harness.store.gather(first.id)
    assert await the_entries(harness, dataset_id) == {"row-0": ("new", NOW + 9, 0), "row-1": ("b", NOW + 20, 0)}
    assert [night.run_id for night in await harness.reader.nights(dataset_id)] == [second.id, first.id]


async def test_nights_on_which_the_same_row_failed_are_counted(harness: Harness) -> None:
    for number, text in enumerate(["a", "a", "changed", "changed"]):
        run, dataset_id = await plan_night(harness, f"night-{number}", {0: text})
        await settle(harness, run, failed=(0,))
        await harness.store.gather(run.id)
        await harness.store.gather(run.id)
        assert (await the_entries(harness, dataset_id))["row-0"] == (text, None, number % 2 + 1)


async def test_a_failed_request_that_is_tried_again_and_succeeds_counts_as_answered(harness: Harness) -> None:
    run, dataset_id = await plan_night(harness, "one", {0: "a"})
    await settle(harness, run, failed=(0,))
    await harness.store.gather(run.id)
    await replace(harness, run=run).requeue(State.FAILED)
    await settle(harness, run, at=NOW + 7)
    await harness.store.gather(run.id)
    assert await the_entries(harness, dataset_id) == {"row-0": ("a", NOW + 7, 0)}


@pytest.mark.parametrize("drop", [False, True])
async def test_removed_rows_leave_the_results_and_come_back(harness: Harness, drop: bool) -> None:
    run, dataset_id = await plan_night(harness, "one", {0: "a", 1: "b"})
    await settle(harness, run)
    await harness.store.gather(run.id)
    later, _ = await plan_night(harness, "two", {2: "c"})
    entries = await harness.reader.entries(dataset_id, ["row-0", "row-1"])
    for night in (run, later):
        # Only what the newest run found missing is removed.
        assert len(await harness.reader.entries_after(dataset_id, 0, limit=9)) == 2
        await harness.store.note_removed(night.id, [entries["row-0"].id])
        await harness.store.remove_noted(night.id, drop=drop, at=NOW + 9)
    assert await harness.reader.entries_after(dataset_id, 0, limit=9) == [entries["row-1"].id]
    assert [each.key async for each in harness.reader.dataset_results(dataset_id)] == ["row-1"]
    assert (await harness.reader.noted_changes(later.id)) == {"row-0": "removed", "row-2": "new"}
    found = await harness.reader.entries(dataset_id, ["row-0"])
    assert [each.removed for each in found.values()] == ([] if drop else [True])
    if not drop:
        await harness.store.restore_entries([found["row-0"].id])
        both = [entries["row-0"].id, entries["row-1"].id]
        assert await harness.reader.entries_after(dataset_id, 0, limit=9) == both
        assert await harness.reader.entries_after(dataset_id, both[0], limit=9) == both[1:]
    # The night before may be gathered at any time, and brings back nothing.
    await harness.store.gather(later.id)
    dataset = await harness.reader.dataset("texts", simulated=False)
    assert dataset is not None
    assert dataset.rows == (1 if drop else 2)


async def test_kept_answers_take_new_hashes(harness: Harness) -> None:
    run, dataset_id = await plan_night(harness, "one", {0: "a", 1: "b"}, stage="old")
    await settle(harness, run)
    await harness.store.gather(run.id)
    assert await harness.reader.other_stages(dataset_id, b"new") == 2
    entries = await harness.reader.entries(dataset_id, ["row-0", "row-1", "row-2"])
    kept = [KeptRequest(entry_id=each.id, row_hash=b"x", stage_hash=b"new") for each in entries.values()]
    await harness.store.keep_requests(kept)
    assert await harness.reader.other_stages(dataset_id, b"new") == 0
    [first, second] = (await harness.reader.entries(dataset_id, ["row-0", "row-1"])).values()
    assert first.row == ComparedRow(row_hash=b"x", stage_hash=b"new", request_hash=b"aold")
    assert second.row.request_hash == b"bold"


async def test_a_night_keeps_what_it_found_changed(harness: Harness) -> None:
    run, dataset_id = await plan_night(harness, "one", {0: "a"})
    assert await harness.reader.night(run.id) == NightRecord(run_id=run.id, dataset_id=dataset_id)
    await harness.store.count_changes(run.id, Changes({Change.NEW: 1, Change.REMOVED: 3}))
    night = await harness.reader.night(run.id)
    assert night is not None
    assert night.changes == {Change.NEW: 1, Change.REMOVED: 3}
    await harness.store.close_night(run.id)
    assert await harness.reader.nights(dataset_id) == [replace(night, is_closed=True)]
    assert await harness.reader.night(harness.run.id) is None
    assert await harness.reader.planned_keys(run.id, ["row-0", "row-1"]) == {"row-0"}


async def test_a_dataset_is_locked_once_and_apart_from_runs(backend: Backend, harness: Harness) -> None:
    with backend.lock(1, "demo"), backend.lock_dataset(1, "texts"), backend.lock_dataset(2, "others"):
        with pytest.raises(RunBusy, match="dataset 'texts'"), backend.lock_dataset(1, "texts"):
            pass
        assert not backend.is_locked(2)
    with backend.lock_dataset(1, "texts"):
        pass


async def test_an_earlier_day_replaces_and_removes_nothing_of_a_later_one(harness: Harness) -> None:
    first, dataset_id = await plan_night(harness, "first", {1: "a", 2: "b"}, as_of=10)
    await settle(harness, first)
    await harness.store.gather(first.id)
    earlier, _ = await plan_night(harness, "earlier", {1: "old", 3: "c"}, as_of=9)
    await settle(harness, earlier, at=NOW + 5)
    await harness.store.gather(earlier.id)
    found = await the_entries(harness, dataset_id)
    assert found == {"row-1": ("a", NOW, 0), "row-2": ("b", NOW, 0), "row-3": ("c", NOW + 5, 0)}
    entries = await harness.reader.entries(dataset_id, ["row-1", "row-2", "row-3"])
    assert [entries[key].as_of for key in sorted(entries)] == [10, 10, 9]
    await harness.store.note_removed(earlier.id, [entries["row-2"].id])
    await harness.store.remove_noted(earlier.id, drop=False, at=NOW)
    assert not (await harness.reader.entries(dataset_id, ["row-2"]))["row-2"].removed
    later, _ = await plan_night(harness, "later", {1: "new"}, as_of=11)
    await settle(harness, later, failed=(1,))
    await harness.store.gather(later.id)
    assert (await the_entries(harness, dataset_id))["row-1"] == ("new", None, 1)
