"""The lane of batches under every fault: each row that can be answered is, and both sides have the same bill."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest

from orchestrator.core.errors import ExitCode, UsageError
from orchestrator.core.lanes import Lane
from orchestrator.core.states import State
from orchestrator.sandbox.sandbox_settings import BATCH_FAULTS, FILE_FAULTS

from .rehearsal import RUN, Account, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 24
# Eight lines in a batch; what the provider shows late is waited for a minute, which is a second here.
SETTINGS: dict[str, Any] = {"max_lines": 8, "grace": "60s", "give_up_after": "10m"}
# In tens of seconds, as a batch is polled at most once a second.
SLOW = {"queue": 5, "run": {"from_s": 10, "to_s": 40}}
# Of a model and time for which batches have a published price.
JOB: dict[str, Any] = {"lane": "batch", "retry": {"attempts": 20}, "request": {"model": "gpt-5-mini"}}


async def batched(rehearse: Rehearse, *, job: dict[str, Any] | None = None, **settings: Any) -> Rehearsal:
    faults: dict[str, Any] = settings.pop("faults", {})
    lane = settings.pop("lane", {})
    request = {**JOB["request"], **(job or {}).pop("request", {})} if job else JOB["request"]
    return await rehearse(
        rows=settings.pop("rows", ROWS),
        faults={"batch_late_s": 20, **faults},
        sandbox={"latency": SLOW, **settings.pop("sandbox", {})},
        job={**JOB, **(job or {}), "request": request},
        config={"lanes": {"batch": {**SETTINGS, **lane}}, **settings.pop("config", {})},
        **settings,
    )


async def of_lanes(rehearsal: Rehearsal) -> Counter[str]:
    async with rehearsal.orchestrator() as orchestrator:
        rows = [row async for row in orchestrator.results(RUN, states=tuple(State))]
    return Counter(row.lane.value for row in rows if row.lane is not None)


def check_answered(account: Account, rows: int = ROWS) -> None:
    assert account.states == {"succeeded": rows}
    assert account.exit is ExitCode.OK
    assert account.summary.reserved_pusd == 0
    assert account.ledger["creates"]["calls"] == 0


async def test_rows_are_answered_in_batches_at_half_the_price(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse)
    account = await rehearsal.run()
    check_answered(account)
    assert account.ledger["batches"]["calls"] == 3
    assert account.ledger["batches"]["lines"] == ROWS
    assert await of_lanes(rehearsal) == {Lane.BATCH.value: ROWS}
    assert {row.service_tier for row in account.results.values()} == {"batch"}
    assert account.summary.cost_pusd == account.ledger["cost_pusd"] > 0
    assert account.summary.cost_unknown == 0
    assert account.summary.cost_estimated_pusd == 0
    # The uploaded files are deleted, and the results are not ours to delete.
    files = await rehearsal.files()
    assert {file["purpose"] for file in files} == {"batch_output"}


# Every batch but the last ones is struck; then each row is answered, in a batch of its own or a later one.
SURVIVED: dict[str, dict[str, Any]] = {
    "batch_token_limit": {"rate": 1, "calm": 2, "attempts": 1},
    "batch_expires": {"rate": 1, "calm": 4, "attempts": 1},
    "batch_no_output": {"rate": 1, "calm": 2},
    "batch_empty_ids": {"rate": 1},
    "batch_late_lines": {"rate": 1},
    "batch_repeated_lines": {"rate": 1},
    "batch_listed_late": {"rate": 1},
    "batch_reply_lost": {"rate": 1},
    "batch_slow_cancel": {"rate": 1},
    "file_late": {"rate": 1},
    "file_reply_lost": {"rate": 1, "calm": 2},
    "failed_server_error": {"rate": 0.3},
    "failed_rate_limited": {"rate": 0.3},
}


# Each of the others stands for a way of its own to survive.
RARELY = {"batch_token_limit", "batch_slow_cancel", "batch_empty_ids", "file_late", "file_reply_lost"} | {
    name for name in SURVIVED if name.startswith("failed_")
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[pytest.mark.long] if name in RARELY else []) for name in SURVIVED]
)
async def test_every_row_is_answered_in_spite_of(rehearse: Rehearse, fault: str) -> None:
    case = SURVIVED[fault]
    # What is not the fault of a request spends none of its attempts.
    job = {"retry": {"attempts": case.get("attempts", 20)}}
    faults = {fault: case["rate"], "calm_batches_after": case.get("calm")}
    rehearsal = await batched(rehearse, faults=faults, job=job)
    account = await rehearsal.run()
    check_answered(account)
    assert account.ledger["cost_pusd"] == account.summary.cost_pusd
    assert account.summary.possible_duplicates == 0
    assert account.ledger["duplicates"]["usable"] == 0


async def test_a_wrong_line_fails_its_row_and_the_others_are_sent_again(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, faults={"batch_line_error": 1, "calm_batches_after": 3})
    account = await rehearsal.run()
    assert account.states == {"succeeded": ROWS - 3, "failed": 3}
    assert account.codes == {"invalid_request": 3}
    # The fifth line of each batch of eight.
    failed = {key for key, row in account.results.items() if row.state is State.FAILED}
    assert failed == {"row-4", "row-12", "row-20"}


async def test_lines_in_no_file_are_asked_again_as_possible_duplicates(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, faults={"batch_missing_lines": 1, "calm_batches_after": 3})
    account = await rehearsal.run()
    check_answered(account)
    assert account.summary.possible_duplicates == 3 == account.ledger["duplicates"]["usable"]
    assert account.summary.cost_unknown == 3
    assert account.ledger["cost_pusd"] > account.summary.cost_pusd


@pytest.mark.long
async def test_a_batch_that_never_ends_is_cancelled_and_what_it_answered_is_taken(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, faults={"batch_never_ends": 1})
    account = await rehearsal.run()
    check_answered(account)
    assert account.ledger["batches"]["calls"] == 3


@pytest.mark.long
async def test_no_more_tokens_are_enqueued_than_the_account_allows(rehearse: Rehearse) -> None:
    limit = 1_000
    limits = {"batch_enqueued_tokens": limit}
    rehearsal = await batched(rehearse, sandbox={"limits": limits}, lane={"enqueued_tokens": limit})
    ledger = (await rehearsal.run()).ledger["batches"]
    assert (ledger.get("token_limited", 0), ledger["lines"]) == (0, ROWS)
    assert ledger["calls"] > 3
    assert limit / 2 < ledger["most_enqueued_tokens"] <= limit


@pytest.mark.long
async def test_a_lower_limit_than_the_configured_one_is_learned(rehearse: Rehearse) -> None:
    rehearsal = await batched(
        rehearse,
        rows=60,
        sandbox={"limits": {"batch_enqueued_tokens": 12_000}},
        job={"request": {"input": "Summarise:\n{{ text * 20 }}"}},
        lane={"max_lines": 20},
    )
    account = await rehearsal.run()
    check_answered(account, 60)
    assert 0 < account.ledger["batches"]["token_limited"] < 8


async def test_a_repaired_answer_is_asked_for_in_the_background(rehearse: Rehearse) -> None:
    schema = {"type": "object", "properties": {"gist": {"type": "string"}}, "required": ["gist"]}
    form = {"type": "json_schema", "name": "gist", "schema": {**schema, "additionalProperties": False}}
    job = {"request": {"text": {"format": form}}, "on_invalid": {"repairs": 10}}
    rehearsal = await batched(rehearse, job=job, faults={"wrong_schema": 0.5})
    account = await rehearsal.run()
    assert account.states == {"succeeded": ROWS}
    assert account.ledger["batches"]["lines"] == ROWS
    lanes = await of_lanes(rehearsal)
    assert lanes.keys() == {Lane.BACKGROUND.value, Lane.BATCH.value}
    assert account.ledger["creates"]["accepted"] >= lanes[Lane.BACKGROUND.value]
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_a_wrong_model_stops_the_run_at_its_first_batch(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, job={"request": {"model": "gpt-99"}})
    account = await rehearsal.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "model_not_found"
    assert account.states == {"pending": ROWS}
    assert account.summary.cost_pusd == 0


@pytest.mark.long
async def test_a_budget_is_never_exceeded(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, job={"budget": {"usd": "0.003"}})
    account = await rehearsal.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "budget"
    assert 0 < account.summary.requests[State.SUCCEEDED] < ROWS
    assert account.summary.cost_pusd <= 3 * 10**9


async def test_a_cancelled_run_takes_what_its_batches_have_answered(rehearse: Rehearse) -> None:
    slow = {"queue": 5, "run": {"from_s": 10, "to_s": 400}}
    rehearsal = await batched(rehearse, sandbox={"latency": slow}, lane={"give_up_after": "1d"})
    account = await rehearsal.cancelled_after(200)
    assert set(account.states) == {"succeeded", "cancelled"}
    assert account.summary.run.state.value == "cancelled"
    assert account.summary.reserved_pusd == 0
    assert account.ledger["responses"] == {
        "completed": account.states["succeeded"],
        "cancelled": account.states["cancelled"],
    }


async def test_a_stopped_run_leaves_its_batches_open_and_collects_them_later(rehearse: Rehearse) -> None:
    rehearsal = await batched(rehearse, sandbox={"latency": {"queue": 5, "run": {"from_s": 200, "to_s": 220}}})
    account = await rehearsal.stopped_after(90)
    assert account.states == {"submitted": ROWS}
    account = await rehearsal.run()
    check_answered(account)
    assert account.ledger["batches"]["calls"] == 3


# Lines that end so fail their rows, as in the background.
FINAL = ("failed_invalid_prompt", "incomplete", "content_filter", "empty_output", "refusal")
FINAL_CODES = {"invalid_prompt", "max_output_tokens", "content_filter", "empty_output", "refusal", "invalid_request"}
AGAIN = ("failed_server_error", "failed_rate_limited", "stuck_queued", "stuck_in_progress")


@pytest.mark.parametrize(("rows", "lines"), [(40, 5), pytest.param(400, 20, marks=pytest.mark.long)])
async def test_all_faults_at_once(
    rehearse: Rehearse, capsys: pytest.CaptureFixture[str], rows: int, lines: int
) -> None:
    faults = {
        **dict.fromkeys(BATCH_FAULTS, 0.06),
        **dict.fromkeys(FILE_FAULTS, 0.1),
        **dict.fromkeys((*FINAL, *AGAIN), 0.015),
    }
    rehearsal = await batched(rehearse, rows=rows, faults=faults, lane={"max_lines": lines}, speed=120.0)
    account = await rehearsal.run()
    assert account.states.keys() <= {"succeeded", "failed"}
    assert account.codes.keys() <= FINAL_CODES
    assert account.states["succeeded"] >= rows * 0.7
    ledger = account.ledger
    with capsys.disabled():
        sys.stdout.write(f"\n{account.states} {account.codes} {ledger['batches']}\n")
    # Nothing is in doubt in this lane: what may have been paid for twice was in none of the files of its batch.
    assert account.summary.requests[State.IN_DOUBT] == 0
    assert ledger["duplicates"]["usable"] <= account.summary.possible_duplicates
    assert ledger["seen_by_client"]["cost_pusd"] == account.summary.cost_pusd


async def test_another_run_waits_for_a_batch_that_a_stopped_run_left_open(rehearse: Rehearse) -> None:
    slow = {"latency": {"queue": 5, "run": {"from_s": 200, "to_s": 220}}}
    rehearsal = await batched(rehearse, job={"reuse": "same-request"}, sandbox=slow)
    await rehearsal.stopped_after(90)
    async with rehearsal.orchestrator() as orchestrator:
        second = await orchestrator.run(rehearsal.job, name="second")
        assert (second.run.state.value, second.run.reason) == ("halted", "in_doubt")
        assert second.attempts == 0
    check_answered(await rehearsal.run())
    async with rehearsal.orchestrator() as orchestrator:
        second = await orchestrator.run(rehearsal.job, name="second")
    assert (second.requests[State.SUCCEEDED], second.reused, second.cost_pusd) == (ROWS, ROWS, 0)


async def test_one_line_of_a_batch_cannot_be_cancelled_alone(rehearse: Rehearse) -> None:
    slow = {"latency": {"queue": 5, "run": {"from_s": 200, "to_s": 220}}}
    rehearsal = await batched(rehearse, rows=4, sandbox=slow)
    await rehearsal.stopped_after(90)
    async with rehearsal.orchestrator() as orchestrator:
        with pytest.raises(UsageError, match="line of a batch"):
            await orchestrator.cancel_rows(RUN, ["row-1"])
