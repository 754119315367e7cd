"""Runs whose lane is chosen by the deadline, from the job file to the bill."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.app.connections import lanes_snapshot
from orchestrator.core.events import Warned
from orchestrator.core.lanes import Lane
from orchestrator.core.states import RunState
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.stores.sqlite.backend import SqliteBackend

from .rehearsal import RUN, Account, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

# An hour in a second.
FAST = 3600.0
WINDOWS = {"lanes": {"windows": {"models": ["gpt-5-mini"]}}}


def lanes(account: Account) -> set[Lane | None]:
    return {result.lane for result in account.results.values()}


def warned(at: Rehearsal) -> list[str]:
    return [event.code for event in at.events if isinstance(event, Warned)]


async def remember_pace(at: Rehearsal, *, rows_per_s: float) -> None:
    """As if an earlier run had learned it; what it leaves free is time enough for a busy machine."""
    memory = LaneMemory()
    memory.note_pace("gpt-5-mini", rows_per_s)
    async with SqliteBackend(at.folder / "runs.db").open_store() as store:
        await store.remember(lanes_snapshot(at.config), memory.dump())


async def test_a_deadline_far_away_buys_the_discount(rehearse: Rehearse) -> None:
    at = await rehearse(rows=60, job={"lane": "auto", "deadline": "30h"}, config=WINDOWS)
    account = await at.run()
    assert (account.states, lanes(account)) == ({"succeeded": 60}, {Lane.WINDOW_8H})
    assert account.summary.cost_estimated_pusd == account.summary.cost_pusd > 0
    plain = await (await rehearse(rows=60)).run()
    assert account.summary.cost_pusd * 10 == plain.summary.cost_pusd * 6
    async with at.orchestrator() as orchestrator:
        [note] = await orchestrator.lanes(RUN)
    assert "60% of the standard price" in note.why


@pytest.mark.parametrize(("job", "rows"), [({}, 60), ({"deadline": "10m"}, 60), ({"deadline": "30h"}, 20)])
async def test_without_time_or_reason_to_wait_it_is_the_background(
    rehearse: Rehearse, job: dict[str, Any], rows: int
) -> None:
    account = await (await rehearse(rows=rows, job={"lane": "auto", **job}, config=WINDOWS)).run()
    assert lanes(account) == {Lane.BACKGROUND}


@pytest.mark.long
async def test_windows_that_take_too_long_are_left_in_time(rehearse: Rehearse) -> None:
    patient = {"queued": "40h", "run": "40h", "read": "40h", "connect": "40h"}
    at = await rehearse(
        rows=60,
        job={"lane": "auto", "deadline": "9h"},
        sandbox={"windows": {"used": 9}},
        config=WINDOWS,
        timeouts=patient,
        speed=FAST,
    )
    await remember_pace(at, rows_per_s=60 * 1.3 / (3 * 3600))
    account = await at.run()
    assert (account.states, lanes(account)) == ({"succeeded": 60}, {Lane.BACKGROUND})
    summary = account.summary
    assert summary.run.state is RunState.FINISHED
    assert summary.run.deadline_at is not None
    assert max(row.settled_at or 0.0 for row in account.results.values()) <= summary.run.deadline_at
    async with at.orchestrator() as orchestrator:
        taken = [note.lane for note in await orchestrator.lanes(RUN)]
        rows = await orchestrator.costs(RUN, ["lane"])
    assert taken == [Lane.WINDOW_2H, Lane.BACKGROUND]
    # Each lane was given each row, and only the last one counts; what a cancelled response costs is not known.
    assert (summary.attempts, await at.spent(), summary.cost_unknown) == (120, 60, 60)
    assert {row.group: (row.responses, row.cost_unknown) for row in rows} == {
        ("background",): (60, 0),
        ("window-2h",): (60, 60),
    }


@pytest.mark.parametrize("lane", ["auto", "window-8h"])
async def test_a_model_without_windows_is_learned_on_the_first_refusal(rehearse: Rehearse, lane: str) -> None:
    windows = {"windows": {"models": ["gpt-6.2-sol"]}}
    at = await rehearse(rows=60, job={"lane": lane, "deadline": "30h"}, sandbox=windows, config=WINDOWS)
    account = await at.run()
    assert (account.states, lanes(account)) == ({"succeeded": 60}, {Lane.BACKGROUND})
    assert set(warned(at)) == {"lane_refused"}
    # Nothing was created or spent by it, and the next run does not even ask.
    assert account.summary.attempts == 60
    creates = account.creates
    async with at.orchestrator() as orchestrator:
        await orchestrator.run(at.job.model_copy(update={"duplicates": "each"}), name="next", new=True)
    assert (await at.ask("/_ledger"))["creates"]["calls"] == creates + 60


async def test_other_servers_are_not_asked_for_windows(rehearse: Rehearse) -> None:
    # The address is none of OpenAI's, and no model is named that takes them there.
    at = await rehearse(rows=60, job={"lane": "auto", "deadline": "30h"})
    account = await at.run()
    assert lanes(account) == {Lane.BACKGROUND}


async def test_rows_of_several_turns_do_not_wait_for_a_discount(rehearse: Rehearse) -> None:
    job = {"lane": "auto", "deadline": "30h", "chain": {"by": "n"}}
    account = await (await rehearse(rows=60, job=job, config=WINDOWS)).run()
    assert lanes(account) == {Lane.BACKGROUND}
