"""Timeouts: responses that take too long, are gone or come late; and the deadline of a whole run."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import RunState

from .gateway import Call, error
from .rehearsal import Rehearse

pytestmark = pytest.mark.anyio

ROWS = 8
MINUTE = 60.0
# Which row gets repeated faults depends on the order of arrival; no row must run out of attempts.
PATIENT = {"retry": {"attempts": 50}}


@pytest.mark.parametrize(
    ("fault", "timeouts", "code"),
    [("stuck_queued", {"queued": "1h"}, "queued_timeout"), ("stuck_in_progress", {"run": "6h"}, "run_timeout")],
)
async def test_a_response_that_never_ends_is_cancelled_and_retried_until_attempts_are_spent(
    rehearse: Rehearse, fault: str, timeouts: dict[str, Any], code: str
) -> None:
    hour = 3600 if "queued" in timeouts else 6 * 3600
    at = await rehearse(
        rows=ROWS, faults={fault: 1}, job={"retry": {"attempts": 2}}, timeouts=timeouts, speed=hour * 4.0
    )
    account = await at.run()
    assert account.exit is ExitCode.SOME_FAILED
    assert account.codes == {"attempts_exhausted": ROWS}
    assert all(code in (row.message or "") for row in account.results.values())
    assert account.creates == account.summary.attempts == ROWS * 2
    assert account.ledger["cancels"]["calls"] == ROWS * 2
    assert account.ledger["responses"] == {"cancelled": ROWS * 2}
    # A cancelled response has no usage, and its cost need not be zero.
    assert account.summary.cost_unknown == ROWS * 2
    assert account.summary.cost_unknown_bound.bounded_pusd > 0
    first, second = await at.attempts("row-0")
    assert (first.code, second.code) == (code, "attempts_exhausted")
    assert hour <= (first.ended_at or 0) - (first.accepted_at or 0) <= hour * 1.5


async def test_a_response_that_cannot_be_cancelled_is_abandoned(rehearse: Rehearse) -> None:
    """A server that lost the work behind an id keeps answering "queued" to every call."""

    def script(call: Call) -> Response | None:
        return error(409) if call.kind == "cancel" else None

    at = await rehearse(
        rows=ROWS,
        faults={"stuck_queued": 0.3},
        job=PATIENT,
        timeouts={"queued": "2m"},
        script=script,
        speed=480.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    lost = account.accepted - ROWS
    assert lost > 0
    assert account.ledger["responses"] == {"completed": ROWS, "queued": lost}
    assert account.summary.attempts == account.creates == ROWS + lost
    assert account.summary.cost_unknown == lost


@pytest.mark.parametrize("refuses", ["return", "refuse"])
async def test_a_late_completion_after_the_cancel_is_kept_and_charged(rehearse: Rehearse, refuses: str) -> None:
    """A response given up shortly before its end is complete at the next poll."""
    at = await rehearse(
        rows=ROWS,
        faults={"late_after_cancel": 1},
        sandbox={"latency": {"queue": 0, "run": 1.0}, "cancel_ended": refuses},
        timeouts={"run": 0.6},
        speed=1.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.ledger["cancels"]["calls"] > 0
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == 0
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_a_response_that_continues_after_its_cancel_is_found_at_the_end(rehearse: Rehearse) -> None:
    """After the cancel the row is retried. The end shows that it continued, or its cost is within a bound."""
    at = await rehearse(
        rows=ROWS,
        faults={"late_after_cancel": 1},
        job=PATIENT,
        sandbox={"latency": {"queue": {"from_s": 1, "to_s": 40}, "run": 1}},
        timeouts={"queued": 20},
        speed=80.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    gone = account.summary.attempts - ROWS
    found_out = account.delivered["completed"] - ROWS
    assert 0 < found_out <= gone
    assert account.delivered == {"completed": ROWS + found_out} | (
        {"cancelled": gone - found_out} if gone > found_out else {}
    )
    assert account.summary.cost_unknown == gone - found_out
    unseen = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 <= unseen <= account.summary.cost_unknown_bound.bounded_pusd


async def test_a_completion_window_extends_the_timeout(rehearse: Rehearse) -> None:
    """With a completion window of two hours, an hour in the queue is expected."""
    request = {"background_options": {"completion_window": "2h"}}
    at = await rehearse(
        rows=ROWS,
        job={"request": request},
        sandbox={"latency": {"queue": 2.5 * 3600, "run": 60}},
        timeouts={"queued": "1h", "run": "2h"},
        speed=12_000.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.ledger["cancels"]["calls"] == 0
    assert account.creates == account.summary.attempts == ROWS


# ── unknown responses ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_response_with_404_is_polled_again(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"young_404": 1, "young_404_s": 45}, speed=100.0)
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.ledger["polls"]["refused"]["not_found"] > 0
    assert account.creates == account.summary.attempts == ROWS


async def test_an_old_404_has_expired_and_is_sent_again_if_cheap(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"vanish": 0.4, "vanish_after_s": 0}, job=PATIENT, speed=600.0)
    account = await at.run()
    assert account.exit is ExitCode.OK
    expired = account.accepted - ROWS
    assert expired > 0
    assert account.creates == account.summary.attempts == ROWS + expired
    assert account.summary.cost_unknown == expired
    ended = [attempt for n in range(ROWS) for attempt in await at.attempts(f"row-{n}")]
    assert [attempt.code for attempt in ended].count("response_expired") == expired
    # It is polled beyond its first minute, several times, minutes apart.
    gone = [attempt for attempt in ended if attempt.code == "response_expired"]
    assert all((attempt.ended_at or 0) - (attempt.accepted_at or 0) >= 2 * MINUTE for attempt in gone)


async def test_an_old_404_fails_its_row_if_expensive(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=ROWS,
        faults={"vanish": 0.4, "vanish_after_s": 0},
        config={"in_doubt": {"resend_below_usd": 0}},
        speed=600.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.SOME_FAILED
    failed = account.states["failed"]
    assert account.codes == {"response_expired": failed}
    assert account.creates == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == failed
    # The provider knows its real cost, we know an upper bound.
    unseen = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 < unseen <= account.summary.cost_unknown_bound.bounded_pusd


# ── the run's own deadline ────────────────────────────────────────────────────────────────────────────────────


async def test_after_the_runs_deadline_nothing_is_sent_and_open_responses_are_fetched(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=40,
        job={"deadline": "60s"},
        limits={"requests_per_minute": 20, "tokens_per_minute": None},
        sandbox={"latency": {"queue": 1, "run": 15}},
        speed=120.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert (account.summary.run.state, account.summary.run.reason) == (RunState.HALTED, "deadline")
    # Twenty a minute until the deadline, and what was on its way then. When exactly each was sent says how busy the
    # machine is: a second of this clock is less than a hundredth of a real one.
    assert 0 < account.accepted <= 30
    assert account.states == {"succeeded": account.accepted, "pending": 40 - account.accepted}


async def test_after_its_deadline_a_run_continues_with_a_new_one(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=24, job={"deadline": "60s"}, limits={"requests_per_minute": 20, "tokens_per_minute": None}, speed=60.0
    )
    account = await at.run()
    assert account.summary.run.reason == "deadline"
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.creates == account.summary.attempts == 24


@pytest.mark.parametrize("retry_after", ["3600", "Fri, 31 Dec 2049 23:59:59 GMT"])
async def test_a_wait_beyond_the_deadline_ends_the_run(rehearse: Rehearse, retry_after: str) -> None:
    at = await rehearse(
        rows=ROWS, job={"deadline": "10m"}, faults={"rate_limited": 1, "retry_after": retry_after}, speed=1200.0
    )
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "deadline"
    assert account.states == {"pending": ROWS}
    assert account.summary.attempts == 0
    assert account.summary.elapsed_s < 15 * MINUTE
