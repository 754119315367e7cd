"""The lane for servers without a background mode: one held call for each row, and no polls."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from orchestrator.core.events import Warned
from orchestrator.core.lanes import Lane
from orchestrator.core.states import RunState, State

from .rehearsal import RUN, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

SYNC = {"lane": "sync"}
OWN = {"sandbox": {"models": ["my-model"], "like": "llama-cpp"}, "config": {"prices": "free"}}


def lanes_of(at: Rehearsal) -> list[str]:
    return [event.message for event in at.events if isinstance(event, Warned) and event.code == "background_ignored"]


async def test_a_row_takes_one_call_and_no_poll(rehearse: Rehearse) -> None:
    at = await rehearse(rows=20, job=SYNC)
    account = await at.run()
    assert account.states == {"succeeded": 20}
    assert (account.creates, account.summary.polls) == (20, 0)
    assert {result.lane for result in account.results.values()} == {Lane.SYNC}
    async with at.orchestrator() as orchestrator:
        assert [row.group for row in await orchestrator.costs(RUN, ["lane"])] == [("sync",)]


async def test_no_more_calls_are_held_than_the_config_allows(rehearse: Rehearse) -> None:
    at = await rehearse(rows=30, job=SYNC, config={"lanes": {"sync": {"at_once": 3}}})
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            # The sandbox knows a response from its create call to its end.
            ledger = await at.ask("/_ledger")
            ended = ledger["seen_by_client"]["responses"].get("completed", 0)
            most = max(most, ledger["creates"]["accepted"] - ended)
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        account = await at.run()
        tasks.cancel_scope.cancel()
    assert account.states == {"succeeded": 30}
    assert 1 <= most <= 3 + 1  # one may have ended between its two numbers


async def test_a_call_lasts_as_long_as_an_answer_may_take(rehearse: Rehearse) -> None:
    # The answers take longer than a call to a background server may.
    slow = {"latency": {"queue": 1, "run": 5}}
    at = await rehearse(rows=4, job=SYNC, timeouts={"read": 1, "run": 3600}, speed=20, sandbox=slow)
    account = await at.run()
    assert (account.states, account.summary.attempts) == ({"succeeded": 4}, 4)


async def test_an_answer_that_never_comes_is_given_up_and_judged_by_its_worst_case(rehearse: Rehearse) -> None:
    faults = {"stuck_in_progress": 1.0}
    at = await rehearse(rows=2, job={**SYNC, "retry": {"attempts": 2}}, faults=faults, timeouts={"run": 1}, speed=10)
    account = await at.run()
    # Twice asked, at less than the threshold; then held for the operator, because something may have been spent.
    assert account.summary.run.state is RunState.HALTED
    assert account.states == {"in_doubt": 2}
    assert account.summary.attempts == 4


async def test_a_server_that_ignores_background_is_found_out_once(rehearse: Rehearse) -> None:
    at = await rehearse(rows=40, job={"request": {"model": "my-model"}}, **OWN)
    account = await at.run(same_bill=False)
    assert account.states == {"succeeded": 40}
    assert account.summary.polls <= 1  # whether the server keeps what it has answered
    assert len(lanes_of(at)) == 1
    async with at.orchestrator() as orchestrator:
        notes = await orchestrator.lanes(RUN)
    assert [(note.lane, note.stage) for note in notes] == [(Lane.SYNC, "main")]


async def test_one_answer_that_comes_at_once_says_nothing_about_the_server(rehearse: Rehearse) -> None:
    at = await rehearse(rows=60, faults={"terminal_in_create": 0.2})
    # With one call at a time, the first reply is that of a response that runs on.
    account = await at.run()
    assert account.states == {"succeeded": 60}
    lanes = [result.lane for result in account.results.values()]
    assert lanes.count(Lane.BACKGROUND) >= 1


@pytest.mark.parametrize("free", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_held_rows_are_pending_again_after_a_stop_where_that_costs_nothing(
    rehearse: Rehearse, free: bool
) -> None:
    config: dict[str, Any] = {"prices": "free"} if free else {}
    at = await rehearse(rows=8, job=SYNC, config=config, sandbox={"latency": {"queue": 0, "run": 3600}}, speed=1)
    async with at.orchestrator() as orchestrator, anyio.create_task_group() as tasks:

        async def stop() -> None:
            while orchestrator.progress.requests[State.SUBMITTING] < 8:  # noqa: ASYNC110  # no signal
                await anyio.sleep(0.01)
            orchestrator.stop()

        tasks.start_soon(stop)
        summary = await orchestrator.run(at.job, name=RUN)
    counts = {state.value: n for state, n in summary.requests.items() if n}
    assert counts == ({"pending": 8} if free else {"submitting": 8})
    assert summary.attempts == (0 if free else 8)


async def test_an_answer_that_is_held_need_not_be_stored(rehearse: Rehearse) -> None:
    at = await rehearse(rows=3, job={**SYNC, "request": {"store": False}})
    async with at.orchestrator() as orchestrator:
        first = (await orchestrator.dry_run(at.job)).first_request
    assert first is not None
    sent = json.loads(first)
    assert sent["store"] is False
    assert "background" not in sent
    assert (await at.run()).states == {"succeeded": 3}
