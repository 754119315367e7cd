"""What halts a whole run: no credit, no key, no API. At once, at low cost, and so that the run can be resumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import RunState

from .gateway import Call, error
from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 200
# Replies take long enough for many creates to be in flight at the first refusal.
SLOW_REPLIES = {"latency": {"queue": 0.01, "run": 0.05, "reply": 0.03}}


class Switch:
    """A fault that starts after so many creates, and that a test can fix."""

    def __init__(self, reply: Callable[[], Response], *, after: int = 0, kind: str = "create") -> None:
        self._reply = reply
        self._after = after
        self._kind = kind
        self.fixed = False

    def __call__(self, call: Call) -> Response | None:
        struck = call.kind == self._kind and call.ordinal > self._after and not self.fixed
        return self._reply() if struck else None


def passed_on(_: Call) -> Response | None:
    return None


def halted(account: Account, reason: str) -> None:
    assert account.exit is ExitCode.HALTED
    assert (account.summary.run.state, account.summary.run.reason) == (RunState.HALTED, reason)


@pytest.mark.parametrize(
    ("fault", "reason", "collected"),
    [("quota_exhausted_after", "insufficient_quota", True), ("bad_key_after", "invalid_api_key", False)],
)
async def test_a_lack_of_credit_or_key_stops_sending(
    rehearse: Rehearse, fault: str, reason: str, collected: bool
) -> None:
    rows = 800
    at = await rehearse(rows=rows, faults={fault: 20}, sandbox=SLOW_REPLIES, script=passed_on, speed=1.0)
    account = await at.run()
    halted(account, reason)
    assert at.gateway is not None
    creates = at.gateway.of("create")
    # No more were refused than are in flight at once: 64, or a few times as many while the machine is busy.
    assert len(creates) - 20 <= rows / 2
    # Refused requests spent nothing; accepted ones are paid for, and fetched if the key still allows it.
    assert account.accepted == account.summary.attempts == 20
    assert account.states["pending"] == rows - 20
    if collected:
        assert account.states["succeeded"] == 20
    assert account.summary.possible_duplicates == 0


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(lambda: error(429, "insufficient_quota"), id="quota"),
        pytest.param(lambda: error(429, "credit_balance_exhausted"), id="credit"),
        pytest.param(lambda: error(402), id="payment-required"),
        pytest.param(lambda: error(401, "invalid_api_key"), id="key"),
        pytest.param(lambda: error(403, "unsupported_country_region_territory"), id="country"),
        pytest.param(lambda: error(407), id="proxy-login"),
    ],
)
async def test_once_it_is_fixed_the_run_continues_and_no_attempt_was_spent(
    rehearse: Rehearse, reply: Callable[[], Response]
) -> None:
    trouble = Switch(reply, after=4)
    at = await rehearse(script=trouble)
    # It stops at once, so an answer may be in flight; both sides are compared after the resume.
    first = await at.run(same_bill=False)
    assert first.exit is ExitCode.HALTED
    assert first.accepted == 4
    trouble.fixed = True
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.accepted == account.summary.attempts == 12
    assert account.summary.possible_duplicates == account.summary.cost_unknown == 0


@pytest.mark.parametrize("reply", [lambda: error(401, "invalid_api_key"), lambda: error(405), lambda: error(501)])
async def test_a_forbidden_poll_halts_the_run_and_leaves_the_response_open(
    rehearse: Rehearse, reply: Callable[[], Response]
) -> None:
    trouble = Switch(reply, after=5, kind="poll")
    at = await rehearse(script=trouble)
    first = await at.run(same_bill=False)
    assert first.exit is ExitCode.HALTED
    assert first.states["submitted"] > 0
    trouble.fixed = True
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.accepted == account.summary.attempts == 12


async def test_a_quota_that_comes_and_goes_costs_no_row(rehearse: Rehearse) -> None:
    at = await rehearse(faults={"insufficient_quota": 0.2})
    account = await at.run()
    halts = 0
    while account.exit is ExitCode.HALTED:
        halts += 1
        halted(account, "insufficient_quota")
        account = await at.run()
    assert account.exit is ExitCode.OK
    assert 0 < halts <= account.refused["insufficient_quota"]
    assert account.accepted == account.summary.attempts == 12


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(lambda: error(404, "model_not_found"), "model_not_found", id="model"),
        pytest.param(lambda: error(400, "unsupported_parameter"), "unsupported_parameter", id="parameter"),
        pytest.param(lambda: Response("<html>Nothing here.</html>", 404), "http_404", id="address"),
        pytest.param(lambda: Response(status_code=302, headers={"location": "/login"}), "http_302", id="redirect"),
        pytest.param(lambda: Response("", 501), "http_501", id="no-such-api"),
    ],
)
async def test_a_wrong_job_or_address_halts_before_rows_fail(
    rehearse: Rehearse, reply: Callable[[], Response], reason: str
) -> None:
    at = await rehearse(rows=ROWS, script=Switch(reply))
    account = await at.run()
    halted(account, reason)
    assert account.states == {"pending": ROWS}
    assert account.summary.attempts == 0
    assert at.gateway is not None
    assert len(at.gateway.of("create")) <= 64 + 3


async def test_the_same_refusal_after_a_success_fails_its_row(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        return error(400, "unsupported_value") if call.kind == "create" and call.ordinal % 3 == 0 else None

    at = await rehearse(script=script, limits={"max_in_flight": 2})
    account = await at.run()
    assert account.exit is ExitCode.SOME_FAILED
    assert account.codes == {"unsupported_value": 4}
    assert account.creates == account.accepted == 8
    assert account.summary.attempts == 12


async def test_web_pages_instead_of_responses_halt_the_run(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"html_200": 1})
    account = await at.run()
    halted(account, "unreadable_reply")
    # Each may have been sent: those answered with a page are in doubt or counted, the others were never sent.
    assert account.creates <= 64 + 3
    assert account.states["pending"] >= ROWS - 64 - 3
    assert account.summary.attempts == account.accepted == account.creates


async def test_a_server_that_keeps_no_response_is_detected_after_three(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        return error(404) if call.kind == "poll" else None

    at = await rehearse(script=script, limits={"max_in_flight": 4}, speed=200.0)
    account = await at.run()
    halted(account, "response_expired")
    assert account.accepted <= 4 + 3
