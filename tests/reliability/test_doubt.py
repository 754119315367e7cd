"""A request whose reply was lost: sent again if that is cheap, else held for a decision."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from orchestrator.core.errors import ExitCode
from orchestrator.core.model import Usage
from orchestrator.core.states import State

from .gateway import Call
from .rehearsal import RUN, Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
# Nothing is cheap enough to be sent again automatically.
HOLD = {"in_doubt": {"resend_below_usd": 0}}
SEND_AGAIN = {"in_doubt": {"resend_below_usd": 0.05}}


def held(account: Account) -> int:
    """Returns how many are held, and asserts that the run reports only that."""
    n = account.states["in_doubt"]
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "in_doubt"
    assert account.summary.requests[State.SUCCEEDED] == ROWS - n
    return n


async def test_expensive_requests_are_held_and_none_is_sent_twice(rehearse: Rehearse) -> None:
    at = await rehearse(faults={"drop_after": 0.3}, config=HOLD)
    account = await at.run()
    assert held(account) == account.lost > 0
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.possible_duplicates == 0
    # Resuming without a decision changes nothing and sends nothing.
    again = await at.run()
    assert held(again) == account.lost
    assert again.creates == ROWS


async def test_held_rows_are_sent_again_if_the_operator_decides_so(rehearse: Rehearse) -> None:
    at = await rehearse(faults={"drop_after": 0.3}, config=HOLD)
    account = await at.run()
    rounds = 0
    while account.exit is ExitCode.HALTED:
        rounds += 1
        held_now = held(account)
        assert await at.retry(states=(), resolve_in_doubt="resend") == held_now
        account = await at.run()
    assert rounds > 0
    assert account.exit is ExitCode.OK
    assert account.accepted == account.creates == account.summary.attempts == ROWS + account.lost
    assert account.summary.possible_duplicates == account.summary.cost_unknown == account.lost
    assert (
        account.summary.possible_duplicates_bound.bounded_pusd == account.summary.cost_unknown_bound.bounded_pusd > 0
    )
    # The decision keeps the idempotency key: a server that honors keys would still answer it once.
    responses = await at.responses()
    assert len({each["idempotency_key"] for each in responses}) == ROWS


async def test_held_rows_fail_if_the_operator_decides_so(rehearse: Rehearse) -> None:
    at = await rehearse(faults={"drop_after": 0.3}, config=HOLD)
    n = held(await at.run())
    assert await at.retry(states=(), resolve_in_doubt="fail") == n
    account = await at.run()
    assert account.exit is ExitCode.SOME_FAILED
    assert account.states == {"succeeded": ROWS - n, "failed": n}
    assert account.codes == {"submit_in_doubt": n}
    assert account.creates == ROWS
    # What they may have cost is shown, though no row is sent twice.
    assert account.summary.cost_unknown == n
    assert account.summary.possible_duplicates == 0


async def test_an_expensive_row_is_held_while_cheap_ones_are_sent_again(rehearse: Rehearse) -> None:
    """The first six may cost a cent, the others a tenth of one; the limit is between them."""
    request = {"max_output_tokens": "{{ 5000 if n < 6 else 400 }}"}
    at = await rehearse(
        faults={"drop_after": 0.4}, job={"request": request}, config={"in_doubt": {"resend_below_usd": 0.005}}
    )
    expensive = {f"row-{n}" for n in range(6)}
    account = await at.run()
    in_doubt = {key for key, row in account.results.items() if row.state is State.IN_DOUBT}
    repeated = {key for key, row in account.results.items() if row.possible_duplicates}
    assert in_doubt
    assert repeated
    assert in_doubt <= expensive
    assert not repeated & expensive


async def test_with_all_attempts_spent_a_row_stays_in_doubt_without_more_duplicates(rehearse: Rehearse) -> None:
    at = await rehearse(rows=3, faults={"drop_after": 1}, job={"retry": {"attempts": 3}}, config=SEND_AGAIN)
    account = await at.run()
    assert account.summary.run.reason == "in_doubt"
    assert account.states == {"in_doubt": 3}
    assert account.creates == account.summary.attempts == 9
    assert account.summary.possible_duplicates == 6


@pytest.mark.parametrize("fault", ["drop_after", "bad_gateway_after", "html_200", "hang"])
async def test_a_server_that_honors_keys_is_never_paid_twice(rehearse: Rehearse, fault: str) -> None:
    at = await rehearse(
        faults={fault: 0.25},
        sandbox={"idempotency": "honour"},
        timeouts={"read": 2},
        limits={"max_in_flight": 4},
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.lost > 0
    assert account.accepted == ROWS
    assert account.ledger["creates"]["replayed"] == account.lost == account.summary.possible_duplicates
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_the_cost_of_a_row_in_doubt_is_unknown_until_it_is_resolved(rehearse: Rehearse) -> None:
    at = await rehearse(rows=1, faults={"drop_after": 1}, config=HOLD)
    account = await at.run()
    assert (account.summary.cost_pusd, account.summary.usage) == (0, Usage())
    assert account.summary.reserved_pusd > 0
    (row,) = account.results.values()
    assert (row.cost_pusd, row.upper_bound_pusd) == (None, account.summary.reserved_pusd)
    (attempt,) = await at.attempts("row-0")
    assert (attempt.ended_at, attempt.response_id, attempt.charge) == (None, None, None)


async def test_a_process_that_dies_while_sending_costs_no_attempt(rehearse: Rehearse) -> None:
    """Each time its creates are in flight; counted as attempts, they would exceed the job's."""
    on_the_wire = anyio.Event()

    def script(call: Call) -> None:
        if call.kind == "create" and call.ordinal % ROWS == 0:
            on_the_wire.set()

    at = await rehearse(sandbox={"latency": {"reply": 6, "run": 30}}, job={"retry": {"attempts": 2}}, script=script)
    deaths = 4
    for _ in range(deaths):
        on_the_wire = anyio.Event()
        async with at.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(orchestrator.run, at.job, name=RUN))
            await on_the_wire.wait()
            tasks.cancel_scope.cancel()
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.accepted == account.creates == ROWS * (deaths + 1)
    assert account.summary.possible_duplicates == ROWS * deaths
    attempts = await at.attempts("row-0")
    assert [attempt.counted for attempt in attempts] == [False] * deaths + [True]
    assert len({attempt.idempotency_key for attempt in attempts}) == 1
