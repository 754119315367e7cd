"""Each fault of the settings, one by one, as a client on a socket sees it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anyio
import httpx
import pytest

from orchestrator.sandbox.sandbox_settings import DELIVERY_FAULTS, GROUPS, Faults, fault_table
from orchestrator.testing import FakeClock

from .callers import TEXT, Caller, Start

pytestmark = pytest.mark.anyio

FUNCTION = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}, "strict": True}


async def struck(start: Start, fault: str, *, at: float = 1, faults: dict[str, Any] | None = None) -> Caller:
    return await start(faults={fault: at, **(faults or {})})


async def ended(caller: Caller, clock: FakeClock, **fields: Any) -> Any:
    """A response, after the time in which it ends."""
    response = await caller.created(**fields)
    clock.advance(30)
    return await caller.seen(response["id"])


async def accepted(caller: Caller) -> int:
    return int((await caller.ledger())["creates"]["accepted"])


# Refusals: nothing was created.


@pytest.mark.parametrize(
    ("fault", "status", "error_type", "code", "retry_after"),
    [
        ("rate_limited", 429, "requests", "rate_limit_exceeded", "1"),
        ("slow_down", 429, "rate_limit_error", "slow_down", None),
        ("insufficient_quota", 429, "insufficient_quota", "insufficient_quota", None),
        ("server_error", 500, "server_error", "server_error", None),
        ("overloaded", 503, "service_unavailable_error", "server_is_overloaded", None),
        ("forbidden", 403, "invalid_request_error", "unsupported_country_region_territory", None),
        ("request_timeout", 408, "invalid_request_error", None, None),
        ("conflict", 409, "invalid_request_error", None, None),
        ("unprocessable", 422, "invalid_request_error", None, None),
        ("conversation_locked", 400, "invalid_request_error", "conversation_locked", None),
    ],
)
async def test_a_refusal_is_an_error_of_the_api(
    start: Start, fault: str, status: int, error_type: str, code: str | None, retry_after: str | None
) -> None:
    caller = await struck(start, fault)
    reply = await caller.create()
    assert reply.status_code == status
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert (reply.json()["error"]["type"], reply.json()["error"]["code"]) == (error_type, code)
    assert reply.headers.get("retry-after") == retry_after
    assert await accepted(caller) == 0


async def test_queue_full_resembles_a_wrong_request(start: Start) -> None:
    caller = await struck(start, "queue_full")
    reply = await caller.create()
    assert (reply.status_code, reply.json().keys()) == (400, {"detail"})
    assert "queue is full" in reply.json()["detail"]
    assert await accepted(caller) == 0


async def test_flex_unavailable_strikes_flex_only(start: Start) -> None:
    caller = await struck(start, "flex_unavailable")
    reply = await caller.create(service_tier="flex")
    assert (reply.status_code, "Resource Unavailable" in reply.text) == (429, True)
    assert (await caller.create()).status_code == 200


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "soon", "Fri, 31 Dec 2027 23:59:59 GMT", None])
async def test_retry_after_is_that_of_the_settings(start: Start, text: str | None) -> None:
    caller = await struck(start, "rate_limited", faults={"retry_after": text})
    assert (await caller.create()).headers.get("retry-after") == text


@pytest.mark.parametrize("fault", ["bad_gateway_before", "html_502"])
async def test_a_gateway_fails_before_anything_is_created(start: Start, fault: str) -> None:
    caller = await struck(start, fault)
    reply = await caller.create()
    assert reply.status_code == 502
    assert ("<html>" in reply.text) == (fault == "html_502")
    assert await accepted(caller) == 0


async def test_drop_before(start: Start) -> None:
    caller = await struck(start, "drop_before")
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.create()
    assert await accepted(caller) == 0


# Delivery: the response was created, but its reply does not arrive complete.


async def test_every_lost_reply_is_counted_under_its_name(start: Start) -> None:
    for fault in DELIVERY_FAULTS:
        caller = await struck(start, fault)
        usual, caller.http.timeout = caller.http.timeout, httpx.Timeout(60, read=0.2)
        with contextlib.suppress(httpx.HTTPError):
            await caller.create()
        caller.http.timeout = usual
        ledger = await caller.ledger()
        assert ledger["creates"]["accepted"] == 1
        assert ledger["replies_lost"] == {"total": 1, fault: 1}


@pytest.mark.parametrize(
    ("fault", "status"), [("bad_gateway_after", 502), ("gateway_timeout", 504), ("gateway_reset", 503)]
)
async def test_a_gateway_loses_the_reply(start: Start, fault: str, status: int) -> None:
    caller = await struck(start, fault)
    assert (await caller.create()).status_code == status


async def test_drop_after(start: Start) -> None:
    caller = await struck(start, "drop_after")
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.create()


async def test_drop_mid_body_delivers_the_id(start: Start) -> None:
    caller = await struck(start, "drop_mid_body")
    arrived = b""
    with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what arrives before it is the point
        async with caller.http.stream("POST", "/responses", json={"model": "gpt-5-mini", "input": "x"}) as reply:
            assert reply.status_code == 200
            async for chunk in reply.aiter_raw():
                arrived += chunk
    assert arrived.startswith(b'{"id":"resp_')


async def test_truncated_body_is_a_200_with_half_a_response(start: Start) -> None:
    caller = await struck(start, "truncated_body")
    reply = await caller.create()
    assert reply.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        reply.json()
    response_id = reply.text.split('"')[3]
    assert (await caller.seen(response_id))["id"] == response_id


async def test_html_200(start: Start) -> None:
    caller = await struck(start, "html_200")
    reply = await caller.create()
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_hang(start: Start) -> None:
    caller = await struck(start, "hang")
    caller.http.timeout = httpx.Timeout(60, read=0.2)
    with pytest.raises(httpx.ReadTimeout):
        await caller.create()


# Endings: the response is known, but does not end with a good answer.


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("failed_server_error", "server_error"),
        ("failed_rate_limited", "rate_limit_exceeded"),
        ("failed_invalid_prompt", "invalid_prompt"),
    ],
)
async def test_a_response_fails_without_usage(start: Start, clock: FakeClock, fault: str, code: str) -> None:
    response = await ended(await struck(start, fault), clock)
    assert (response["status"], response["error"]["code"]) == ("failed", code)
    assert (response["usage"], response["output"], response["completed_at"]) == (None, [], None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("incomplete", "max_output_tokens"), ("incomplete_length", "length"), ("content_filter", "content_filter")],
)
async def test_a_response_stops_early(start: Start, clock: FakeClock, fault: str, reason: str) -> None:
    response = await ended(await struck(start, fault), clock, model="gpt-4.1")
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
    message = response["output"][-1]
    assert (message["type"], message["status"]) == ("message", "incomplete")
    assert response["usage"]["output_tokens"] > 0


async def test_empty_output_is_charged(start: Start, clock: FakeClock) -> None:
    response = await ended(await struck(start, "empty_output"), clock, model="gpt-4.1")
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["reasoning"]
    usage = response["usage"]
    assert usage["output_tokens"] == usage["output_tokens_details"]["reasoning_tokens"] > 0


async def test_refusal(start: Start, clock: FakeClock) -> None:
    response = await ended(await struck(start, "refusal"), clock)
    assert response["status"] == "completed"
    assert [part["type"] for part in response["output"][-1]["content"]] == ["refusal"]


async def test_requires_action_calls_a_function_or_asks_for_an_approval(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "requires_action")
    called = (await ended(caller, clock, tools=[FUNCTION]))["output"][-1]
    assert (called["type"], called["name"]) == ("function_call", "look_up")
    asked = (await ended(caller, clock, tools=[{"type": "mcp", "server_label": "archive"}]))["output"][-1]
    assert (asked["type"], asked["server_label"]) == ("mcp_approval_request", "archive")


@pytest.mark.parametrize("fault", ["invalid_json", "wrong_schema"])
async def test_only_a_requested_format_is_violated(start: Start, clock: FakeClock, fault: str) -> None:
    caller = await struck(start, fault)
    schema = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
    shape = {"format": {"type": "json_schema", "name": "summary", "schema": schema}}
    response = await ended(caller, clock, text=shape)
    assert response["status"] == "completed"
    text = response["output"][-1]["content"][0]["text"]
    if fault == "wrong_schema":
        assert json.loads(text) == {}
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    plain = await ended(caller, clock)
    assert plain["output"][-1]["content"][0]["text"] in TEXT


@pytest.mark.parametrize(("fault", "status"), [("stuck_queued", "queued"), ("stuck_in_progress", "in_progress")])
async def test_a_response_is_stuck_until_it_is_cancelled(
    start: Start, clock: FakeClock, fault: str, status: str
) -> None:
    caller = await struck(start, fault)
    response = await caller.created()
    clock.advance(1_000_000)
    assert (await caller.seen(response["id"]))["status"] == status
    assert (await caller.cancel(response["id"])).json()["status"] == "cancelled"


# Quirks: it ends well, but is shown in an odd way.


async def test_late_after_cancel_completes_after_the_cancel(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "late_after_cancel")
    response = await caller.created()
    cancelled = (await caller.cancel(response["id"])).json()
    assert (cancelled["status"], cancelled["usage"]) == ("cancelled", None)
    assert (await caller.ledger())["cost_pusd"] == 0
    clock.advance(30)
    late = await caller.seen(response["id"])
    assert (late["status"], late["usage"]["total_tokens"] > 0) == ("completed", True)
    ledger = await caller.ledger()
    assert ledger["seen_by_client"]["cost_pusd"] == ledger["cost_pusd"] > 0


async def test_vanish(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "vanish", faults={"vanish_after_s": 5})
    response = await ended(caller, clock)
    assert response["status"] == "completed"
    clock.advance(5)
    assert (await caller.poll(response["id"])).status_code == 404


async def test_young_404(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "young_404", faults={"young_404_s": 2})
    response = await caller.created()
    missing = await caller.poll(response["id"])
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == f"Response with id '{response['id']}' not found."
    clock.advance(2)
    assert (await caller.seen(response["id"]))["status"] == "queued"


async def test_ill_typed(start: Start, clock: FakeClock) -> None:
    response = await ended(await struck(start, "ill_typed"), clock)
    assert response["created_at"].startswith("2023-11-14T")
    assert response["usage"].keys() == {"input_tokens", "output_tokens", "total_tokens"}
    assert {item["status"] for item in response["output"]} == {None}


async def test_terminal_in_create(start: Start) -> None:
    caller = await struck(start, "terminal_in_create")
    response = await caller.created()
    assert (response["status"], response["background"]) == ("completed", True)
    assert (await caller.ledger())["seen_by_client"]["responses"] == {"completed": 1}


async def test_background_ignored_replies_at_the_end(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "background_ignored")
    replies: list[Any] = []

    async def create() -> None:
        replies.append(await caller.created())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        assert await clock.advance_to_next() == 30
    assert (replies[0]["status"], replies[0]["background"]) == ("completed", True)


async def test_unknown_status(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "unknown_status")
    response = await caller.created()
    assert response["status"] == "pending"
    clock.advance(10)
    assert (await caller.seen(response["id"]))["status"] == "running"
    clock.advance(20)
    assert (await caller.seen(response["id"]))["status"] == "completed"


async def test_stale_snapshot_ends_with_a_cancel(start: Start, clock: FakeClock) -> None:
    caller = await struck(start, "stale_snapshot")
    response = await ended(caller, clock)
    assert (response["status"], response["output"]) == ("queued", [])
    assert (await caller.ledger())["responses"] == {"completed": 1}
    assert (await caller.cancel(response["id"])).json()["status"] == "completed"
    assert (await caller.seen(response["id"]))["status"] == "completed"


# Polls: a fault is drawn for each poll.


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"), [("poll_500", 500, None), ("poll_429", 429, "1"), ("poll_404", 404, None)]
)
async def test_a_poll_is_refused(start: Start, fault: str, status: int, retry_after: str | None) -> None:
    caller = await struck(start, fault)
    response = await caller.created()
    reply = await caller.poll(response["id"])
    assert (reply.status_code, reply.headers.get("retry-after")) == (status, retry_after)
    assert (await caller.ledger())["polls"]["refused"] == {"total": 1, fault: 1}


async def test_poll_drop(start: Start) -> None:
    caller = await struck(start, "poll_drop")
    response = await caller.created()
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.poll(response["id"])


async def test_poll_html(start: Start) -> None:
    caller = await struck(start, "poll_html")
    reply = await caller.poll((await caller.created())["id"])
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_poll_hang(start: Start) -> None:
    caller = await struck(start, "poll_hang")
    response = await caller.created()
    caller.http.timeout = httpx.Timeout(60, read=0.2)
    with pytest.raises(httpx.ReadTimeout):
        await caller.poll(response["id"])


# Schedules: every call from a certain point on.


@pytest.mark.parametrize(
    ("schedule", "status", "code"),
    [("quota_exhausted_after", 429, "insufficient_quota"), ("bad_key_after", 401, "invalid_api_key")],
)
async def test_the_account_fails_after_some_creates(start: Start, schedule: str, status: int, code: str) -> None:
    caller = await start(faults={schedule: 2})
    replies = [await caller.create() for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, status, status]
    assert replies[-1].json()["error"]["code"] == code


async def test_faults_end_after_some_creates(start: Start) -> None:
    caller = await start(faults={"server_error": 1, "calm_after": 2})
    assert [(await caller.create()).status_code for _ in range(4)] == [500, 500, 200, 200]


async def test_an_overloaded_outage_answers_503_in_its_window(start: Start, clock: FakeClock) -> None:
    caller = await start(faults={"outages": [{"from_s": 10, "to_s": 20, "kind": "overloaded"}]})
    statuses = []
    for _ in range(3):
        statuses.append((await caller.create()).status_code)
        clock.advance(10)
    assert statuses == [200, 503, 200]


async def test_a_refusing_outage_closes_the_port_in_its_window(start: Start, clock: FakeClock) -> None:
    caller = await start(faults={"outages": [{"from_s": 10, "to_s": 20}]})
    response = await caller.created()
    await clock.advance_to_next()
    await refused(caller)
    await clock.advance_to_next()
    assert (await caller.seen(response["id"]))["status"] == "in_progress"


async def refused(caller: Caller) -> None:
    """Ask until nothing listens any more; connections that were open break first."""
    while True:
        try:
            await caller.http.get("/models")
        except httpx.ConnectError:
            return
        except httpx.HTTPError:
            await anyio.lowlevel.checkpoint()


async def test_one_call_meets_at_most_one_fault_of_each_group(start: Start, clock: FakeClock) -> None:
    caller = await start(faults={"failed_server_error": 0.5, "refusal": 0.5, "ill_typed": 1})
    endings = []
    for _ in range(20):
        response = await ended(caller, clock)
        assert isinstance(response["created_at"], str)
        endings.append(response["status"])
    assert set(endings) == {"failed", "completed"}


def test_every_fault_is_described() -> None:
    table = fault_table()
    assert [name for _, name, _ in table] == list(Faults.model_fields)
    assert all(meaning.endswith(".") for _, _, meaning in table)


def test_every_rate_belongs_to_a_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert (
        grouped == [name for name, field in Faults.model_fields.items() if field.annotation is float][: len(grouped)]
    )
    assert set(Faults.model_fields) - set(grouped) == {
        *("quota_exhausted_after", "bad_key_after", "outages", "calm_after"),
        *("calm_batches_after", "batch_late_s", "batch_cancel_s", "retry_after", "vanish_after_s", "young_404_s"),
    }
