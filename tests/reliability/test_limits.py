"""The provider's limits: found, kept, and never at the cost of a row."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode

from .gateway import Call, error
from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

UNKNOWN = {"requests_per_minute": None, "tokens_per_minute": None}


def all_answered(account: Account, rows: int) -> None:
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": rows}
    assert account.accepted == account.summary.attempts == rows


@pytest.mark.long  # policy/test_limits_simulated.py shows the same without real time
async def test_a_server_that_refuses_one_in_five_costs_at_most_three_seconds(rehearse: Rehearse) -> None:
    latency = {"queue": 0.05, "run": {"from_s": 0.1, "to_s": 0.3}}

    async def elapsed_s(rate: float) -> float:
        faults = {"rate_limited": rate, "retry_after": "1"}
        at = await rehearse(rows=200, faults=faults, sandbox={"latency": latency}, limits=UNKNOWN, speed=1.0)
        account = await at.run()
        all_answered(account, 200)
        assert account.summary.rate_limited == account.creates - 200
        return account.summary.elapsed_s

    undisturbed = await elapsed_s(0.0)
    # In real time: other work on the machine can only make it slower, so one success is enough.
    for _ in range(10):
        slower = await elapsed_s(0.2) - undisturbed
        if slower <= 3.0:
            break
    assert slower <= 3.0


@pytest.mark.parametrize("retry_after", ["0", "-5", "1.5", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", None])
async def test_the_rows_are_sent_with_any_retry_after(rehearse: Rehearse, retry_after: str | None) -> None:
    at = await rehearse(faults={"rate_limited": 0.4, "retry_after": retry_after})
    account = await at.run()
    all_answered(account, 12)
    assert account.refused["rate_limited"] > 0


async def test_a_provider_that_refuses_all_calls_is_not_called_more_often_than_it_asks(rehearse: Rehearse) -> None:
    """For a minute and a half all calls are refused with "in 30 seconds"."""

    def script(call: Call) -> Response | None:
        closed = call.kind == "create" and call.since_first_s < 90
        return error(429, "rate_limit_exceeded", retry_after="30") if closed else None

    at = await rehearse(script=script)
    account = await at.run()
    all_answered(account, 12)
    assert at.gateway is not None
    refused = [call for call in at.gateway.of("create") if call.status == 429]
    # All twelve were in flight when three refusals stopped sending; then one call probes each time.
    assert 12 < len(refused) <= 12 + 4
    asked_at = [call.at for call in (refused[0], *refused[12:])]
    assert all(later - earlier >= 30 for earlier, later in pairwise(asked_at))


async def test_a_model_at_its_limit_does_not_delay_another(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        closed = call.kind == "create" and call.fields["model"] == "gpt-5" and call.since_first_s < 120
        return error(429, "rate_limit_exceeded", retry_after="20") if closed else None

    request = {"model": "{{ 'gpt-5' if n % 2 else 'gpt-5-mini' }}"}
    at = await rehearse(job={"request": request}, script=script)
    account = await at.run()
    all_answered(account, 12)
    first = {each["model"]: each["created_at"] for each in reversed(await at.responses())}
    assert all(
        each["created_at"] < first["gpt-5-2025-08-07"] for each in await at.responses() if "mini" in each["model"]
    )
    assert first["gpt-5-2025-08-07"] - first["gpt-5-mini-2025-08-07"] >= 100


# ── requests that can never fit ───────────────────────────────────────────────────────────────────────────────


def one_is_large(n: int) -> dict[str, Any]:
    return {"request": {"max_output_tokens": f"{{{{ 50000 if n == {n} else 400 }}}}"}}


def one_is_refused(account: Account, n: int) -> None:
    assert account.exit is ExitCode.SOME_FAILED
    assert account.states == {"succeeded": 7, "failed": 1}
    assert account.results[f"row-{n}"].code == "request_too_large"
    assert account.summary.cost_unknown == 0
    assert account.accepted == 7


async def test_a_request_over_the_limit_of_the_config_is_never_sent(rehearse: Rehearse) -> None:
    at = await rehearse(rows=8, job=one_is_large(3), limits={"tokens_per_minute": 20_000})
    account = await at.run()
    one_is_refused(account, 3)
    assert account.creates == account.summary.attempts == 7


async def test_a_request_over_a_reported_limit_is_never_sent(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=8,
        job=one_is_large(5),
        sandbox={"limits": {"tokens_per_minute": 20_000}},
        limits={**UNKNOWN, "max_in_flight": 1},
    )
    account = await at.run()
    one_is_refused(account, 5)
    assert account.creates == account.summary.attempts == 7


async def test_a_request_refused_as_too_large_is_not_sent_again(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=8, job=one_is_large(0), sandbox={"limits": {"tokens_per_minute": 20_000}}, limits=UNKNOWN
    )
    account = await at.run()
    one_is_refused(account, 0)
    assert account.creates == 8
    assert account.results["row-0"].attempts == 1


# ── creates and polls ─────────────────────────────────────────────────────────────────────────────────────────


async def test_rate_limited_polls_delay_no_create(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=40,
        sandbox={"limits": {"polls_per_minute": 20}, "latency": {"queue": 1, "run": 5}},
        limits={"polls_per_minute": 6000},
    )
    account = await at.run()
    all_answered(account, 40)
    refused = account.ledger["polls"]["refused"]["rate_limit_exceeded"]
    assert account.summary.rate_limited == refused > 0
    created = [each["created_at"] for each in await at.responses()]
    # Delayed by the limit on polls, 40 creates would take two minutes.
    assert max(created) - min(created) < 60
    # The limiter learns: it uses the allowance without hitting the limit again and again.
    assert refused < account.ledger["polls"]["calls"] * 0.75


async def test_rate_limited_creates_delay_no_poll(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=20,
        sandbox={"limits": {"requests_per_minute": 20, "burst_s": 10}},
        limits={"requests_per_minute": 20, "tokens_per_minute": None},
    )
    account = await at.run()
    all_answered(account, 20)
    settled = {row.key: row.settled_at or 0.0 for row in account.results.values()}
    lags = [settled[each["key"]] - each["ended_at"] for each in await at.responses()]
    assert sorted(lags)[len(lags) // 2] < 5
    assert max(lags) < 30


async def test_an_unknown_limit_is_found_and_kept(rehearse: Rehearse) -> None:
    """Neither config nor headers state it: only refusals show it. None of them costs an attempt."""
    limits = {"requests_per_minute": 600, "burst_s": 2, "headers": False}
    at = await rehearse(rows=60, sandbox={"limits": limits}, limits=UNKNOWN, speed=10.0)
    account = await at.run()
    all_answered(account, 60)
    assert account.summary.rate_limited == account.refused.get("rate_limit_exceeded", 0)
