"""While the provider serves no requests, no attempt is spent, calls are few, and the run continues by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.core.clock import Signal
from orchestrator.core.errors import ExitCode
from orchestrator.core.events import OutageBegan, OutageEnded, RunEvent
from orchestrator.sandbox.faults.broken_replies import Silence

from .gateway import Call, error
from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 40
# A row per second, so that an outage from the tenth second on is in the middle.
STEADY = {"requests_per_minute": 60, "tokens_per_minute": None}
# The longest interval between two probes, with its jitter, and the five seconds after it.
LATEST_RETURN_S = 30 * 1.2 + 5


class Window:
    """A reply instead of the sandbox's for some kinds of calls, in a period after the first call."""

    def __init__(self, reply: Callable[[Call], Response], *kinds: str, from_s: float, to_s: float) -> None:
        self._reply = reply
        self._kinds = kinds
        self._from_s = from_s
        self._to_s = to_s

    def __call__(self, call: Call) -> Response | None:
        struck = call.kind in self._kinds and self._from_s <= call.since_first_s < self._to_s
        return self._reply(call) if struck else None


def all_answered(account: Account, rows: int = ROWS) -> None:
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": rows}


def outages(events: list[RunEvent]) -> tuple[int, int]:
    """Returns how many outages began and ended, as reported to the user."""
    began = sum(isinstance(event, OutageBegan) for event in events)
    return began, sum(isinstance(event, OutageEnded) for event in events)


async def test_two_minutes_in_which_connections_are_refused(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"outages": [{"from_s": 10, "to_s": 130}]}, limits=STEADY, speed=20.0)
    account = await at.run()
    all_answered(account)
    assert outages(at.events) == (1, 1)
    # Only calls in flight when the port closed can have been lost; no other spent an attempt.
    assert account.summary.attempts - ROWS == account.summary.possible_duplicates <= 4
    assert account.summary.elapsed_s < 130 + ROWS + 3 * LATEST_RETURN_S


async def test_two_minutes_in_which_all_calls_are_refused_with_a_retry_after(rehearse: Rehearse) -> None:
    overloaded = {"from_s": 10, "to_s": 130, "kind": "overloaded"}
    at = await rehearse(rows=ROWS, faults={"outages": [overloaded]}, limits=STEADY, speed=120.0)
    account = await at.run()
    all_answered(account)
    assert account.summary.attempts == account.accepted == ROWS
    assert account.summary.possible_duplicates == account.summary.cost_unknown == 0
    assert outages(at.events) == (1, 1)


async def test_an_outage_of_an_hour_is_probed_rarely(rehearse: Rehearse) -> None:
    overloaded = {"from_s": 10, "to_s": 3610, "kind": "overloaded"}
    at = await rehearse(rows=ROWS, faults={"outages": [overloaded]}, limits=STEADY, speed=3600.0)
    account = await at.run()
    all_answered(account)
    assert account.summary.attempts == account.accepted == ROWS
    # One probe per thirty seconds, and the streaks before the circuits opened.
    probes = 3600 / (30 * 0.8)
    assert account.refused["overloaded"] <= probes + 30
    assert account.ledger["polls"]["refused"].get("overloaded", 0) <= probes + 30


async def test_a_period_in_which_all_responses_fail(rehearse: Rehearse) -> None:
    """Requests are accepted as usual, and all their responses fail."""

    def failed(call: Call) -> Response:
        why = {"code": "server_error", "message": "An error occurred."}
        return JSONResponse({"id": call.response_id, "object": "response", "status": "failed", "error": why})

    wave = Window(failed, "poll", from_s=10, to_s=310)
    at = await rehearse(rows=ROWS, limits=STEADY, script=wave, speed=240.0)
    account = await at.run(same_bill=False)
    all_answered(account)
    assert outages(at.events) == (1, 1)
    assert account.summary.cost_unknown == account.accepted - ROWS <= 40
    assert await at.spent() <= ROWS + 10


async def test_an_outage_without_a_free_place_for_a_probe_does_not_spin(rehearse: Rehearse) -> None:
    """Slow responses fill every place while the probe is due: the run must wait until one of them ends."""

    def script(call: Call) -> Response | None:
        why = {"code": "server_error", "message": "An error occurred."}
        if call.kind == "poll" and call.since_first_s < 60:
            return JSONResponse({"id": call.response_id, "object": "response", "status": "failed", "error": why})
        return None

    at = await rehearse(
        rows=20,
        limits={"max_in_flight": 8},
        sandbox={"latency": {"queue": 1, "run": 600}},
        script=script,
        speed=1200.0,
    )
    waits = 0
    wait = at.clock.wait

    async def counted(signal: Signal, until: float | None) -> None:
        nonlocal waits
        waits += 1
        await wait(signal, until)

    at.clock.wait = counted  # type: ignore[method-assign]
    account = await at.run(same_bill=False)
    all_answered(account, 20)
    assert waits < 5000


@pytest.mark.parametrize("status", [500, pytest.param(503, marks=pytest.mark.long)])
async def test_a_period_of_server_errors_on_creates(rehearse: Rehearse, status: int) -> None:
    """Five minutes of errors that look like faults of single rows."""
    wave = Window(lambda _: error(status, "server_error"), "create", from_s=10, to_s=310)
    at = await rehearse(rows=ROWS, limits=STEADY, script=wave, speed=80.0)
    account = await at.run()
    all_answered(account)
    assert account.accepted == ROWS
    assert account.summary.possible_duplicates == account.summary.cost_unknown == 0
    # Only requests that failed before the circuit opened spent an attempt.
    assert await at.spent() <= ROWS + 10


async def test_while_polls_fail_no_response_is_given_up(rehearse: Rehearse) -> None:
    """How a response ended can only be seen when the provider answers again."""
    blackout = Window(lambda _: error(500, "server_error"), "poll", from_s=0, to_s=1200)
    at = await rehearse(rows=12, timeouts={"queued": "5m", "run": "10m"}, script=blackout, speed=1200.0)
    account = await at.run()
    all_answered(account, 12)
    assert account.creates == account.summary.attempts == 12
    assert account.ledger["cancels"]["calls"] == 0
    assert at.gateway is not None
    in_the_dark = [call for call in at.gateway.of("poll") if call.status == 500]
    assert len(in_the_dark) <= 1200 / (30 * 0.8) + 40


async def test_a_row_that_always_fails_is_no_outage(rehearse: Rehearse) -> None:
    """At last it is the only row, and all calls fail; still it must end."""

    def script(call: Call) -> Response | None:
        return error(500, "server_error") if call.kind == "create" and call.key == "row-3" else None

    at = await rehearse(rows=8, script=script, speed=300.0)
    account = await at.run()
    assert account.exit is ExitCode.SOME_FAILED
    assert account.codes == {"attempts_exhausted": 1}
    assert account.results["row-3"].attempts == 5
    assert outages(at.events) == (0, 0)


async def test_a_response_that_cannot_be_polled_is_no_outage(rehearse: Rehearse) -> None:
    """Polls of its first response always fail; the second response, after the timeout, is an answer."""
    hidden: set[str] = set()

    def script(call: Call) -> Response | None:
        if call.kind == "create" or call.key != "row-3":
            return None
        hidden.update([] if hidden else [call.response_id])
        return error(500, "server_error") if call.response_id in hidden else None

    at = await rehearse(rows=8, timeouts={"run": "10m"}, script=script, speed=600.0)
    account = await at.run()
    all_answered(account, 8)
    assert account.accepted == account.summary.attempts == 9
    assert account.summary.cost_unknown == 1
    assert outages(at.events) == (0, 0)


@pytest.mark.parametrize(
    ("status", "code"), [(500, "attempts_exhausted"), (502, "submit_in_doubt")], ids=["refused", "lost"]
)
@pytest.mark.parametrize("rows", [1, 6])
async def test_an_outage_excuses_failures_for_a_limited_time(
    rehearse: Rehearse, rows: int, status: int, code: str
) -> None:
    """If all rows fail, an outage cannot be distinguished from wrong rows; after hours they end."""
    at = await rehearse(
        rows=rows, script=lambda call: error(status) if call.kind == "create" else None, speed=14_400.0
    )
    account = await at.run()
    assert account.codes == {code: rows}
    assert await at.spent() == rows * 5


@pytest.mark.parametrize(
    ("reply", "settings"),
    [
        pytest.param(lambda _: Response("<html>Bad gateway</html>", 502), {"speed": 80.0}, id="bad-gateway"),
        pytest.param(
            lambda _: Response("error code: 520", 520),
            {"speed": 80.0},
            id="unknown-gateway-error",
            marks=pytest.mark.long,
        ),
        # Its timeout is in real time, and a busy machine may take a tenth of a second for any step.
        pytest.param(lambda _: Silence(), {"timeouts": {"read": 0.3}, "speed": 30.0}, id="silence"),
    ],
)
async def test_a_period_of_lost_replies_is_an_outage_too(
    rehearse: Rehearse, reply: Callable[[Call], Response], settings: dict[str, Any]
) -> None:
    """Each may have been sent, and is counted; but no row fails because of it, and calls are few."""
    wave = Window(reply, "create", from_s=10, to_s=310)
    at = await rehearse(rows=ROWS, limits=STEADY, script=wave, **settings)
    account = await at.run()
    all_answered(account)
    assert account.accepted == ROWS
    lost = account.summary.attempts - ROWS
    assert account.summary.possible_duplicates == account.summary.cost_unknown == lost
    assert 4 <= lost <= 30
    assert await at.spent() <= ROWS + 12


async def test_a_day_with_outages_ends(rehearse: Rehearse) -> None:
    """A day of responses of an hour each, with outages of four hours."""
    hour = 3600
    windows = [
        (2, 2.5, "refuse"),
        (5, 6, "overloaded"),
        (9, 9.2, "refuse"),
        (12, 13.5, "refuse"),
        (18, 18.8, "overloaded"),
    ]
    at = await rehearse(
        rows=100,
        sandbox={"latency": {"queue": {"from_s": 10, "to_s": 600}, "run": {"median_s": 0.7 * hour, "sigma": 0.4}}},
        faults={
            "outages": [
                {"from_s": since * hour, "to_s": until * hour, "kind": kind} for since, until, kind in windows
            ],
            "failed_server_error": 0.05,
            "stuck_in_progress": 0.02,
        },
        limits={"max_in_flight": 5},
        timeouts={"queued": "1h", "run": "4h"},
        job={"retry": {"attempts": 10}},
        speed=14_400.0,
    )
    account = await at.run()
    all_answered(account, 100)
    began, ended = outages(at.events)
    assert began == ended >= 3
    assert 16 * hour < account.summary.elapsed_s < 40 * hour


async def test_a_request_that_was_never_sent_uses_no_allowance(rehearse: Rehearse) -> None:
    """Each row takes more than half of a minute's tokens, and the second one first finds a closed port."""
    at = await rehearse(
        rows=2,
        job={"request": {"max_output_tokens": 90_000}},
        limits={"tokens_per_minute": 150_000},
        faults={"outages": [{"from_s": 50, "to_s": 66}]},
        # A busy machine may stand still for a second, which must not count as half a minute.
        speed=10.0,
    )
    account = await at.run()
    all_answered(account, 2)
    assert account.creates == 2
    assert account.summary.elapsed_s < 100
