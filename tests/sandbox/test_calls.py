"""The calls of the API: what each replies, and how a response proceeds by the clock alone."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from starlette.routing import Route

from orchestrator.policy.pricing.tokens import estimate_input, token_counter
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.asgi_app import call_table, create_app
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.testing import FakeClock

from .callers import TEXT, Start

pytestmark = pytest.mark.anyio

# The keys that the API reference requires of every response.
REQUIRED = {
    *("id", "object", "created_at", "error", "incomplete_details", "instructions", "model", "tools", "output"),
    *("parallel_tool_calls", "metadata", "tool_choice", "temperature", "top_p", "status", "background", "usage"),
}


async def test_a_background_response_is_queued_runs_and_completes(start: Start, clock: FakeClock) -> None:
    caller = await start()
    response = await caller.created(metadata={"topic": "harvest"})
    assert response.keys() >= REQUIRED
    assert (response["status"], response["output"], response["usage"]) == ("queued", [], None)
    assert response["model"] == "gpt-5-mini-2025-08-07"
    assert (response["created_at"], response["service_tier"]) == (1_700_000_000, "auto")

    clock.advance(10)
    assert (await caller.seen(response["id"]))["status"] == "in_progress"

    clock.advance(20)
    done = await caller.seen(response["id"])
    assert (done["status"], done["completed_at"], done["service_tier"]) == ("completed", 1_700_000_030, "default")
    assert [item["type"] for item in done["output"]] == ["reasoning", "message"]
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_tokens_details"]["reasoning_tokens"] < usage["output_tokens"]
    assert done["metadata"] == {"topic": "harvest", "sandbox": "simulated"}


async def test_a_foreground_response_is_answered_when_it_is_done(start: Start, clock: FakeClock) -> None:
    caller = await start()
    async with anyio.create_task_group() as tasks:
        replies: list[httpx.Response] = []

        async def create() -> None:
            replies.append(await caller.create(background=False))

        tasks.start_soon(create)
        assert await clock.advance_to_next() == 30
    assert replies[0].json()["status"] == "completed"
    assert (await caller.ledger())["seen_by_client"]["responses"] == {"completed": 1}


async def test_a_client_that_hangs_up_cancels_its_foreground_response(start: Start) -> None:
    caller = await start()
    caller.http.timeout = httpx.Timeout(60, read=0.2)
    with pytest.raises(httpx.ReadTimeout):
        await caller.create(background=False)
    caller.http.timeout = httpx.Timeout(60)
    while (await caller.ledger())["responses"] != {"cancelled": 1}:
        await anyio.lowlevel.checkpoint()


async def test_a_response_that_is_not_stored_cannot_be_found(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    response = await caller.created(background=False, store=False)
    assert response["status"] == "completed"
    assert (await caller.poll(response["id"])).status_code == 404


async def test_cancelling_twice_returns_the_cancelled_response(start: Start, clock: FakeClock) -> None:
    caller = await start()
    response = await caller.created()
    clock.advance(15)
    for _ in range(2):
        cancelled = (await caller.cancel(response["id"])).json()
        assert (cancelled["status"], cancelled["usage"], cancelled["completed_at"]) == ("cancelled", None, None)
    clock.advance(100)
    assert (await caller.seen(response["id"]))["status"] == "cancelled"


@pytest.mark.parametrize(("dialect", "status"), [("return", 200), ("refuse", 400)])
async def test_cancelling_an_ended_response_depends_on_the_server(
    start: Start, clock: FakeClock, dialect: str, status: int
) -> None:
    caller = await start(cancel_ended=dialect)
    response = await caller.created()
    clock.advance(30)
    assert (await caller.cancel(response["id"])).status_code == status
    assert (await caller.seen(response["id"]))["status"] == "completed"


async def test_a_foreground_response_cannot_be_cancelled(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    response = await caller.created(background=False)
    reply = await caller.cancel(response["id"])
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_deleted_response_is_gone_for_every_call(start: Start) -> None:
    caller = await start()
    response_id = (await caller.created())["id"]
    deleted = await caller.http.delete(f"/responses/{response_id}")
    assert deleted.json() == {"id": response_id, "object": "response", "deleted": True}
    for reply in (
        await caller.poll(response_id),
        await caller.cancel(response_id),
        await caller.http.delete(f"/responses/{response_id}"),
        await caller.http.get(f"/responses/{response_id}/input_items"),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"] == {
            "message": f"Response with id '{response_id}' not found.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


async def test_input_items_are_listed_newest_first_and_in_pages(start: Start) -> None:
    caller = await start()
    said = [{"role": "user", "content": f"message {n}"} for n in range(5)]
    response_id = (await caller.created(input=said, instructions="These are not listed."))["id"]

    async def page(**query: str) -> dict[str, object]:
        reply = await caller.http.get(f"/responses/{response_id}/input_items", params=query)
        return dict(reply.json())

    def texts(listed: dict[str, object]) -> list[str]:
        return [item["content"][0]["text"] for item in listed["data"]]  # type: ignore[attr-defined]

    everything = await page()
    assert texts(everything) == [f"message {n}" for n in (4, 3, 2, 1, 0)]
    assert everything["has_more"] is False

    first = await page(order="asc", limit="2")
    assert (texts(first), first["has_more"]) == (["message 0", "message 1"], True)
    second = await page(order="asc", limit="3", after=str(first["last_id"]))
    assert (texts(second), second["has_more"]) == (["message 2", "message 3", "message 4"], False)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}, {"after": "?"}])
async def test_a_wrong_page_is_refused(start: Start, query: dict[str, str]) -> None:
    caller = await start()
    response_id = (await caller.created())["id"]
    reply = await caller.http.get(f"/responses/{response_id}/input_items", params=query)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(query)))


async def test_a_chained_response_knows_the_earlier_turns(start: Start, clock: FakeClock) -> None:
    caller = await start()
    first = await caller.created(input="Peace holds on every border of the country.")
    unfinished = await caller.create(previous_response_id=first["id"])
    assert (unfinished.status_code, unfinished.json()["error"]["code"]) == (400, "previous_response_not_found")

    clock.advance(30)
    second = await caller.created(input="And trade?", previous_response_id=first["id"])
    listed = (await caller.http.get(f"/responses/{second['id']}/input_items", params={"order": "asc"})).json()["data"]
    assert [item.get("role") for item in listed] == ["user", None, "assistant", "user"]
    clock.advance(30)
    usage = [(await caller.seen(each["id"]))["usage"]["input_tokens"] for each in (first, second)]
    assert usage[1] > usage[0]


async def test_input_tokens_are_those_that_a_create_is_charged_for(start: Start, clock: FakeClock) -> None:
    caller = await start()
    asked = {"model": "gpt-5-mini", "input": TEXT, "instructions": "Summarise."}
    counted = (await caller.http.post("/responses/input_tokens", json=asked)).json()
    response = await caller.created(**asked)
    clock.advance(30)
    usage = (await caller.seen(response["id"]))["usage"]
    assert counted == {"object": "response.input_tokens", "input_tokens": usage["input_tokens"]}


SHAPE = {"type": "json_schema", "name": "s", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": TEXT},
        {"input": "Grüße, 世界! 👋", "instructions": TEXT},
        {"input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]},
        {"input": TEXT, "text": {"format": SHAPE}},
        {"input": TEXT, "tools": [TOOL, {"type": "web_search"}]},
        {
            "input": [
                {"role": "user", "content": TEXT},
                {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": TEXT},
            ]
        },
    ],
    ids=str,
)
async def test_input_tokens_match_the_estimate(start: Start, fields: dict[str, Any]) -> None:
    caller = await start()
    fields = {"model": "gpt-5-mini", **fields}
    reply = await caller.http.post("/responses/input_tokens", json=fields)
    assert reply.json()["input_tokens"] == estimate_input(fields, token_counter())


async def test_models_are_listed_with_snapshots(start: Start) -> None:
    caller = await start(models=["my-own"])
    listed = (await caller.http.get("/models")).json()
    names = {card["id"] for card in listed["data"]}
    assert listed["object"] == "list"
    assert names >= {"gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5.6", "o3", "my-own", "sandbox-slow"}
    assert (await caller.http.get("/models/o3")).json()["id"] == "o3"
    assert (await caller.http.get("/models/o99")).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("asked", "echoed"),
    [
        ("gpt-5", "gpt-5-2025-08-07"),
        ("gpt-5-2025-08-07", "gpt-5-2025-08-07"),
        ("gpt-5.6", "gpt-5.6-sol-2026-07-14"),
        ("gpt-6-luna-2027-01-01", "gpt-6-luna-2027-01-01"),
    ],
)
async def test_the_echo_is_a_dated_snapshot(start: Start, asked: str, echoed: str) -> None:
    caller = await start()
    assert (await caller.created(model=asked))["model"] == echoed


@pytest.mark.parametrize(
    ("asked", "echoed"), [(None, "default"), ("auto", "default"), ("fast", "priority"), ("flex", "flex")]
)
async def test_the_tier_is_shown_at_the_end(start: Start, clock: FakeClock, asked: str | None, echoed: str) -> None:
    caller = await start()
    response = await caller.created(service_tier=asked)
    clock.advance(30)
    assert (await caller.seen(response["id"]))["service_tier"] == echoed


async def test_every_reply_has_the_headers_of_the_api(start: Start) -> None:
    caller = await start()
    for reply in (await caller.create(), await caller.create(model="no-such-model")):
        assert reply.headers["x-request-id"].startswith("req_")
        assert int(reply.headers["openai-processing-ms"]) >= 0
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["x-sandbox"] == "simulated"


async def test_the_header_for_slower_polls_ends_with_the_response(start: Start, clock: FakeClock) -> None:
    caller = await start(poll_after_ms=1500)
    reply = await caller.create()
    assert reply.headers["openai-poll-after-ms"] == "1500"
    clock.advance(30)
    assert "openai-poll-after-ms" not in (await caller.poll(reply.json()["id"])).headers


async def test_replies_are_delayed_as_the_settings_say(start: Start, clock: FakeClock) -> None:
    caller = await start(latency={"reply": 3})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.http.get, "/models")
        assert await clock.advance_to_next() == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer sk-anything"}, 200),
        ({"authorization": "", "api-key": "sk-anything"}, 200),
        ({"authorization": "Bearer sk-bad-key"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": ""}, 401),
    ],
)
async def test_a_key_is_required(start: Start, headers: dict[str, str], status: int) -> None:
    caller = await start()
    reply = await caller.create(headers=headers)
    assert reply.status_code == status
    if status == 401:
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert "sk-bad-key" not in reply.text


async def test_only_the_key_of_the_settings_is_accepted(start: Start) -> None:
    caller = await start(api_key="sk-mine")
    assert (await caller.create()).status_code == 401
    assert (await caller.create(headers={"authorization": "Bearer sk-mine"})).status_code == 200


async def test_paths_that_do_not_exist_are_errors_of_the_api(start: Start) -> None:
    caller = await start()
    for reply in (await caller.http.get("/chat/completions"), await caller.http.get("/responses")):
        assert reply.status_code in (404, 405)
        assert reply.json()["error"]["message"].startswith("Invalid URL (GET /v1/")


@pytest.mark.parametrize("mode", ["ignore", "honour"])
async def test_an_idempotency_key_is_honored_if_set(start: Start, mode: str) -> None:
    caller = await start(idempotency=mode)
    ids = [(await caller.create(headers={"idempotency-key": key})).json()["id"] for key in ("a", "a", "b")]
    assert (ids[0] == ids[1]) == (mode == "honour")
    creates = (await caller.ledger())["creates"]
    assert creates["accepted"] == (2 if mode == "honour" else 3)
    assert creates.get("replayed", 0) == (1 if mode == "honour" else 0)


async def test_each_reserved_model_simulates_one_behavior(start: Start, clock: FakeClock) -> None:
    caller = await start(slow_run_s=600)
    assert (await caller.create(model="sandbox-rate-limited")).status_code == 429
    ids = {
        name: (await caller.created(model=f"sandbox-{name}"))["id"] for name in ("failed", "incomplete", "refusal")
    }
    slow = await caller.created(model="sandbox-slow")
    clock.advance(599)
    assert (await caller.seen(slow["id"]))["status"] == "in_progress"
    assert (await caller.seen(ids["failed"]))["error"]["code"] == "server_error"
    assert (await caller.seen(ids["incomplete"]))["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (await caller.seen(ids["refusal"]))["output"][0]["content"][0]["type"] == "refusal"


def test_every_call_is_described_under_its_own_path() -> None:
    with SandboxDatabase() as state:
        routes = create_app(SandboxSettings(), state).routes
    for route, (call, about) in zip(routes, call_table(), strict=True):
        assert isinstance(route, Route)
        method, path = call.split()
        assert path == route.path
        assert method in (route.methods or ())
        assert about.endswith(".")
