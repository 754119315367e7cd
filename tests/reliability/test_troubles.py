"""The troubles of real providers and proxies, T1 to T20 of the list, each in a run.

T17, webhooks that come twice, late or forged, is not among them: nothing listens for webhooks.
"""

from __future__ import annotations

import json
from functools import partial

import anyio
import httpx
import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.events import OutageBegan, Settled

from .gateway import Call
from .rehearsal import RUN, Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
PATIENT = {"retry": {"attempts": 50}}


def all_answered(account: Account, rows: int = ROWS) -> None:
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": rows}


async def test_t01_a_response_that_stays_queued_forever(rehearse: Rehearse) -> None:
    """Given up at its timeout, cancelled, and requested again; nothing is streamed."""
    at = await rehearse(
        rows=ROWS,
        faults={"stuck_queued": 0.2},
        job=PATIENT,
        timeouts={"queued": "5m"},
        script=lambda _: None,
        speed=1200.0,
    )
    account = await at.run()
    all_answered(account)
    stuck = account.delivered["cancelled"]
    assert account.accepted == account.summary.attempts == ROWS + stuck
    assert account.summary.cost_unknown == stuck
    assert at.gateway is not None
    assert not any("stream" in call.fields for call in at.gateway.of("create"))


async def test_t02_a_poller_does_not_loop_forever(rehearse: Rehearse) -> None:
    """One poll per minute is enough for a response that takes hours; it ends at its deadline."""
    at = await rehearse(
        rows=4,
        faults={"stuck_in_progress": 1},
        job={"retry": {"attempts": 1}},
        timeouts={"run": "2h"},
        speed=7200.0,
    )
    account = await at.run()
    assert account.codes == {"attempts_exhausted": 4}
    assert account.ledger["polls"]["calls"] <= 4 * 2 * 60 * 1.5


async def test_t03_a_failure_that_arrives_as_a_success(rehearse: Rehearse) -> None:
    """HTTP 200 with status failed: transient failures are retried, permanent ones fail with their own code."""
    faults = {"failed_server_error": 0.2, "failed_invalid_prompt": 0.2}
    at = await rehearse(rows=20, faults=faults, job=PATIENT, speed=180.0)
    account = await at.run()
    wrong = account.states["failed"]
    assert account.states == {"succeeded": 20 - wrong, "failed": wrong}
    assert account.codes == {"invalid_prompt": wrong}
    assert account.delivered["failed"] == account.summary.cost_unknown == account.accepted - 20 + wrong


async def test_t04_server_errors_on_background_responses_only(rehearse: Rehearse) -> None:
    """Five minutes in which requests are accepted and all fail; no row is lost, and few attempts are spent."""

    def script(call: Call) -> Response | None:
        if call.kind != "poll" or not 10 <= call.since_first_s < 310:
            return None
        why = {"code": "server_error", "message": "An error occurred. (wfr_019a)"}
        return JSONResponse({"id": call.response_id, "object": "response", "status": "failed", "error": why})

    at = await rehearse(
        rows=30, limits={"requests_per_minute": 60, "tokens_per_minute": None}, script=script, speed=240.0
    )
    account = await at.run(same_bill=False)
    all_answered(account, 30)
    assert await at.spent() <= 30 + 10
    assert account.summary.cost_unknown == account.accepted - 30 <= 40
    assert sum(isinstance(event, OutageBegan) for event in at.events) == 1


async def test_t05_cancelled_and_completed_later(rehearse: Rehearse) -> None:
    """Its hidden cost is found by a last poll, or covered by the bound of an unknown cost."""
    at = await rehearse(
        rows=ROWS,
        faults={"late_after_cancel": 1},
        job=PATIENT,
        sandbox={"latency": {"queue": {"from_s": 1, "to_s": 30}, "run": 1}},
        timeouts={"queued": 15},
    )
    account = await at.run()
    all_answered(account)
    assert account.summary.cost_unknown == account.delivered.get("cancelled", 0)
    assert account.summary.attempts > ROWS
    secret = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 <= secret <= account.summary.cost_unknown_bound.bounded_pusd


async def test_t06_completed_without_a_message(rehearse: Rehearse) -> None:
    """Charged without an answer: both are recorded."""
    at = await rehearse(rows=ROWS, faults={"empty_output": 0.4})
    account = await at.run()
    empty = account.states["failed"]
    assert account.codes == {"empty_output": empty}
    assert account.creates == ROWS
    assert all(row.cost_pusd for row in account.results.values())
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_t07_nothing_is_left_to_end_with_its_connection(rehearse: Rehearse) -> None:
    """Every create asks for background and storage explicitly, so that a broken connection ends nothing."""
    at = await rehearse(rows=ROWS, job={"request": {"metadata": {"mine": "1"}}}, script=lambda _: None)
    all_answered(await at.run())
    assert at.gateway is not None
    for call in at.gateway.of("create"):
        assert (call.fields["background"], call.fields["store"]) == (True, True)
        assert call.fields["metadata"]["mine"] == "1"
        assert call.fields["metadata"].keys() >= {"orchestrator_run", "orchestrator_key", "orchestrator_attempt"}


async def test_t08_a_sporadic_404(rehearse: Rehearse) -> None:
    """Half of all polls find nothing, and new responses are unknown at first: none has expired."""
    at = await rehearse(rows=ROWS, faults={"poll_404": 0.5, "young_404": 0.5, "young_404_s": 10}, speed=120.0)
    account = await at.run()
    all_answered(account)
    assert account.ledger["polls"]["refused"]["total"] > 0
    assert account.creates == account.summary.attempts == ROWS


async def test_t09_a_previous_response_that_is_not_found(rehearse: Rehearse) -> None:
    """The row fails with the provider's code; the others continue."""
    request = {"previous_response_id": "{{ 'resp_gone' if n == 3 else none }}"}
    at = await rehearse(rows=6, job={"request": request}, limits={"max_in_flight": 2})
    account = await at.run()
    assert account.states == {"succeeded": 5, "failed": 1}
    assert account.codes == {"previous_response_not_found": 1}
    assert account.creates == account.summary.attempts == 6


async def test_t10_a_conversation_that_is_locked(rehearse: Rehearse) -> None:
    """Rows that share a conversation wait for each other, and all are answered in it."""
    at = await rehearse(rows=4, job=PATIENT)
    async with httpx.AsyncClient(verify=False) as http:  # noqa: S501
        key = {"authorization": "Bearer sk-rehearsal-0123456789"}
        conversation = (await http.post(f"{at.base_url}/conversations", json={}, headers=key)).json()["id"]
    at.ask_for(conversation=conversation)
    account = await at.run()
    all_answered(account, 4)
    locked = account.refused["conversation_locked"]
    assert locked > 0
    assert account.summary.attempts == account.creates == 4 + locked
    assert account.accepted == 4


async def test_t11_calls_that_hang(rehearse: Rehearse) -> None:
    """A create without a reply may have been sent; a poll without one is repeated. Neither stops the others."""
    at = await rehearse(rows=ROWS, faults={"hang": 0.15, "poll_hang": 0.05}, job=PATIENT, timeouts={"read": 2})
    account = await at.run()
    all_answered(account)
    assert account.lost > 0
    assert account.accepted == account.summary.attempts == ROWS + account.lost
    assert account.summary.possible_duplicates == account.lost


async def test_t12_each_response_is_charged_once(rehearse: Rehearse) -> None:
    """Polled many times, resumed, retried, incomplete or failed: the bill is exactly the ledger's."""
    faults = {"incomplete": 0.2, "failed_server_error": 0.2, "poll_drop": 0.2}
    at = await rehearse(rows=20, faults=faults, job=PATIENT, speed=120.0)
    first = await at.run()
    again = await at.run()
    assert again.summary.cost_pusd == first.summary.cost_pusd
    assert await at.retry() == first.states["failed"]
    account = await at.run()
    seen = account.ledger["seen_by_client"]
    assert account.summary.cost_pusd == seen["cost_pusd"] > first.summary.cost_pusd
    charged = [attempt for key in account.results for attempt in await at.attempts(key) if attempt.charge]
    assert len({attempt.response_id for attempt in charged}) == len(charged) == account.accepted


async def test_t13_proxies_that_do_not_understand_the_background(rehearse: Rehearse) -> None:
    """The answer comes with the create, or late with it, or every poll shows the first state."""
    faults = {"terminal_in_create": 0.3, "background_ignored": 0.3, "stale_snapshot": 0.3}
    at = await rehearse(rows=ROWS, faults=faults, timeouts={"queued": 20})
    account = await at.run()
    all_answered(account)
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == 0


async def test_t13_a_proxy_that_cannot_fetch_a_response(rehearse: Rehearse) -> None:
    """Every further request would be paid for and never fetched, so nothing more is sent."""

    def script(call: Call) -> Response | None:
        return Response("Method not allowed", 405) if call.kind == "poll" else None

    at = await rehearse(rows=100, limits={"max_in_flight": 8}, script=script)
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.states == {"submitted": account.accepted, "pending": 100 - account.accepted}
    assert account.accepted <= 8


async def test_t14_a_lost_create_reply(rehearse: Rehearse) -> None:
    """Both responses run and cost; the second is used, the first is counted as a possible duplicate."""
    at = await rehearse(rows=ROWS, faults={"drop_after": 0.3})
    account = await at.run()
    all_answered(account)
    assert account.ledger["duplicates"]["usable"] == account.lost == account.summary.possible_duplicates > 0
    unseen = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 < unseen <= account.summary.possible_duplicates_bound.bounded_pusd


async def test_t15_latencies_that_vary_a_hundredfold(rehearse: Rehearse) -> None:
    """Polls follow the latencies: few per response, and half of the answers wait for less than they took."""
    speed, busy_s = 30.0, 0.3  # a busy machine takes that long for anything
    latency = {"queue": 1, "run": {"median_s": 15, "sigma": 1.5}}
    at = await rehearse(rows=30, sandbox={"latency": latency}, timeouts={"run": "6h"}, speed=speed)
    account = await at.run()
    all_answered(account, 30)
    assert account.ledger["polls"]["calls"] / 30 < 15
    settled = {key: row.settled_at or 0.0 for key, row in account.results.items()}
    waited = sorted(
        (settled[each["key"]] - each["ended_at"] - speed * busy_s) / (each["ended_at"] - each["created_at"])
        for each in await at.responses()
    )
    assert waited[len(waited) // 2] < 1


async def test_t16_results_that_vanish_while_no_process_polls(rehearse: Rehearse) -> None:
    """A resumed run polls the oldest responses first, and keeps those that still exist."""
    all_open = anyio.Event()

    def script(call: Call) -> Response | None:
        if call.kind == "poll" and call.key == "row-11":
            all_open.set()
        return None

    at = await rehearse(
        rows=ROWS,
        limits={"requests_per_minute": 60, "tokens_per_minute": None},
        sandbox={"latency": {"queue": 1, "run": 60}},
        script=script,
    )
    async with at.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(orchestrator.run, at.job, name=RUN))
        await all_open.wait()
        orchestrator.stop()
    assert at.gateway is not None
    before = len(at.gateway.of("poll"))
    await at.clock.sleep_until(at.clock.now() + 70)
    account = await at.run()
    all_answered(account)
    assert account.creates == ROWS
    order = [int((call.key or "").removeprefix("row-")) for call in at.gateway.of("poll")[before:]]
    # Each has a connection of its own, and those that are sent at about the same time may overtake each other.
    assert all(abs(row - place) < ROWS // 2 for place, row in enumerate(order))


async def test_t16_a_result_that_has_vanished_has_its_own_code(rehearse: Rehearse) -> None:
    at = await rehearse(
        rows=6,
        faults={"vanish": 1, "vanish_after_s": 0},
        config={"in_doubt": {"resend_below_usd": 0}},
        script=lambda _: None,
        sandbox={"latency": {"queue": 10, "run": 60}},
        speed=240.0,
    )
    account = await at.run()
    assert account.codes == {"response_expired": 6}
    assert account.summary.cost_unknown == 6
    assert account.creates == 6


async def test_t17_only_the_answer_to_a_poll_ends_a_response(rehearse: Rehearse) -> None:
    """Webhooks may come twice, late or forged: none is used, and each row is settled once by a poll."""
    at = await rehearse(rows=ROWS, script=lambda _: None)
    account = await at.run()
    all_answered(account)
    assert at.gateway is not None
    assert {call.kind for call in at.gateway.calls} == {"create", "poll"}
    polled = {call.key for call in at.gateway.of("poll") if call.status == 200}
    assert polled == account.results.keys()
    assert sorted(event.key for event in at.events if isinstance(event, Settled)) == sorted(account.results)


async def test_t18_ill_typed_json(rehearse: Rehearse) -> None:
    """Times as text, usage without details, null statuses: read as far as possible, and stored as received."""
    at = await rehearse(rows=ROWS, faults={"ill_typed": 1})
    account = await at.run()
    all_answered(account)
    assert account.summary.cost_unknown == 0
    (attempt,) = await at.attempts("row-0")
    assert attempt.body is not None
    body = json.loads(attempt.body)
    assert isinstance(body["created_at"], str)
    assert "input_tokens_details" not in body["usage"]


async def test_t19_a_slow_down_inside_the_limits(rehearse: Rehearse) -> None:
    """The load rose too fast: it is reduced and raised again; no attempt is spent and every row is sent."""
    at = await rehearse(rows=30, faults={"slow_down": 0.2})
    account = await at.run()
    all_answered(account, 30)
    assert account.refused["slow_down"] == account.summary.rate_limited > 0
    assert account.accepted == account.summary.attempts == 30


async def test_t20_completed_but_waiting_for_a_tool(rehearse: Rehearse) -> None:
    """An unanswered function call or approval is no success, whatever its status says."""
    tool = {
        "type": "function",
        "name": "look_up",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    at = await rehearse(rows=4, job={"request": {"tools": [tool]}})
    account = await at.run()
    assert account.codes == {"requires_action": 4}
    approvals = await rehearse(rows=4, faults={"requires_action": 1})
    account = await approvals.run()
    assert account.codes == {"requires_action": 4}
    assert account.summary.cost_unknown == 0
    assert account.summary.cost_pusd == account.ledger["cost_pusd"] > 0
