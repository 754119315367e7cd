"""What an operator asks of a run: to cancel it, or to retry what failed."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import RunState, State

from .gateway import Call, error
from .rehearsal import RUN, Account, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
HOLD = {"in_doubt": {"resend_below_usd": 0}}


class AllOpen:
    """Signals when every row has been accepted and polled."""

    def __init__(self, rows: int = ROWS) -> None:
        self._rows = rows
        self._seen: set[str] = set()
        self.event = anyio.Event()

    def __call__(self, call: Call) -> Response | None:
        if call.kind == "poll":
            self._seen.add(call.response_id)
            if len(self._seen) == self._rows:
                self.event.set()
        return None


async def stopped_when(at: Rehearsal, reached: anyio.Event) -> Account:
    """Run the job, and stop it as by Ctrl-C after an event."""
    async with at.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(orchestrator.run, at.job, name=RUN))
        await reached.wait()
        orchestrator.stop()
    return await at.account()


async def cancelled(at: Rehearsal) -> Account:
    async with at.orchestrator() as orchestrator:
        await orchestrator.cancel(RUN)
    return await at.account()


async def test_a_cancel_reaches_a_run_in_another_process(rehearse: Rehearse) -> None:
    all_open = AllOpen()
    at = await rehearse(sandbox={"latency": {"queue": 1, "run": 36_000}}, script=all_open)
    async with at.orchestrator() as working, at.orchestrator() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(working.run, at.job, name=RUN))
        await all_open.event.wait()
        summary = await operator.cancel(RUN)
    assert summary.run.state is RunState.CANCELLED
    account = await at.account()
    assert account.exit is ExitCode.HALTED
    assert account.states == {"cancelled": ROWS}
    assert account.codes == {"cancelled": ROWS}
    assert account.ledger["responses"] == {"cancelled": ROWS}
    assert account.ledger["cancels"]["calls"] == account.summary.cost_unknown == ROWS


async def test_a_cancel_of_a_paused_run_cancels_what_it_left_open(rehearse: Rehearse) -> None:
    all_open = AllOpen()
    at = await rehearse(sandbox={"latency": {"queue": 1, "run": 36_000}}, script=all_open)
    paused = await stopped_when(at, all_open.event)
    assert paused.summary.run.state is RunState.PAUSED
    assert paused.states == {"submitted": ROWS}
    account = await cancelled(at)
    assert account.states == {"cancelled": ROWS}
    assert account.ledger["responses"] == {"cancelled": ROWS}
    assert account.creates == ROWS


@pytest.mark.parametrize("refuses", ["return", "refuse"])
async def test_a_response_completed_before_the_cancel_is_kept_and_charged(rehearse: Rehearse, refuses: str) -> None:
    all_open = AllOpen()
    latency = {"queue": 1, "run": 45}
    at = await rehearse(sandbox={"latency": latency, "cancel_ended": refuses}, script=all_open)
    paused = await stopped_when(at, all_open.event)
    assert paused.states == {"submitted": ROWS}
    await at.clock.sleep_until(at.clock.now() + 60)
    account = await cancelled(at)
    assert account.summary.run.state is RunState.CANCELLED
    assert account.states == {"succeeded": ROWS}
    assert account.summary.cost_unknown == 0
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_a_cancel_sends_nothing_more_and_settles_what_was_pending(rehearse: Rehearse) -> None:
    few_open = AllOpen(rows=4)
    at = await rehearse(
        sandbox={"latency": {"queue": 1, "run": 36_000}}, limits={"max_in_flight": 4}, script=few_open
    )
    await stopped_when(at, few_open.event)
    account = await cancelled(at)
    assert account.states == {"cancelled": ROWS}
    assert account.creates == account.accepted == account.summary.attempts == 4
    assert account.summary.cost_unknown == 4


async def test_a_cancel_settles_requests_in_doubt_at_an_unknown_cost(rehearse: Rehearse) -> None:
    at = await rehearse(faults={"drop_after": 0.4}, config=HOLD)
    held = (await at.run()).states["in_doubt"]
    account = await cancelled(at)
    assert account.states == {"succeeded": ROWS - held, "cancelled": held}
    assert account.summary.cost_unknown == held
    assert account.creates == ROWS


async def test_a_provider_that_cannot_cancel_is_not_asked_again(rehearse: Rehearse) -> None:
    all_open = AllOpen()

    def script(call: Call) -> Response | None:
        return error(404) if call.kind == "cancel" else all_open(call)

    at = await rehearse(sandbox={"latency": {"queue": 1, "run": 36_000}}, script=script)
    await stopped_when(at, all_open.event)
    account = await cancelled(at)
    assert account.states == {"cancelled": ROWS}
    assert account.ledger["responses"] == {"in_progress": ROWS}
    assert account.summary.cost_unknown == ROWS


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_retry_takes_rows_of_one_code_and_keeps_their_history(rehearse: Rehearse) -> None:
    at = await rehearse(rows=20, faults={"content_filter": 0.3, "refusal": 0.3})
    first = await at.run()
    filtered, refused = first.codes["content_filter"], first.codes["refusal"]
    assert await at.retry(code="content_filter") == filtered
    again = await at.run()
    assert again.creates == again.summary.attempts == 20 + filtered
    retried = [row for row in again.results.values() if row.attempts == 2]
    assert len(retried) == filtered
    assert sum(row.code == "refusal" and row.attempts == 1 for row in again.results.values()) == refused
    # Both responses of a row are paid for, and both are shown.
    key = retried[0].key
    attempts = await at.attempts(key)
    assert next(attempt.code for attempt in attempts) == "content_filter"
    costs = [attempt.charge.cost_pusd or 0 for attempt in attempts if attempt.charge]
    assert sum(costs) == again.results[key].cost_pusd
    assert attempts[0].idempotency_key != attempts[1].idempotency_key


async def test_a_retry_gives_rows_that_ran_out_of_attempts_new_ones(rehearse: Rehearse) -> None:
    broken = True

    def script(call: Call) -> Response | None:
        return error(500) if broken and call.kind == "create" and call.ordinal > 1 else None

    at = await rehearse(rows=4, job={"retry": {"attempts": 2}}, script=script)
    first = await at.run()
    assert first.codes == {"attempts_exhausted": 3}
    broken = False
    assert await at.retry() == 3
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.summary.attempts == 4 + 3 * 2
    assert account.accepted == 4


async def test_cancelled_rows_are_sent_again_on_request_only(rehearse: Rehearse) -> None:
    few_open = AllOpen(rows=4)
    at = await rehearse(sandbox={"latency": {"queue": 1, "run": 45}}, limits={"max_in_flight": 4}, script=few_open)
    await stopped_when(at, few_open.event)
    await cancelled(at)
    # A cancelled run stays cancelled, however often it is called.
    assert (await at.run()).states == {"cancelled": ROWS}
    assert await at.retry(states=[State.CANCELLED]) == ROWS
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": ROWS}
    assert account.accepted == ROWS + 4
