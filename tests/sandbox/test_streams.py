"""Streams: the events of a response, followed from the start or from any of them, with the official package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeAlias

import anyio
import openai
import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from orchestrator.sandbox.simulation.event_stream import events_of, frame
from orchestrator.sandbox.storage.response_record import ResponseRecord
from orchestrator.testing import FakeClock

from .callers import TEXT, Caller, Start

pytestmark = pytest.mark.anyio

Client: TypeAlias = Any
AT_ONCE = {"queue": 0, "run": 0}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
}
RECORD = ResponseRecord(
    id="resp_1",
    ordinal=1,
    created_at=100,
    starts_at=110,
    ends_at=130,
    end_status="completed",
    usable=True,
    usage=None,
    model="gpt-5",
    tier="default",
    background=True,
    stored=True,
    streamed=True,
    echo=b"{}",
    output=orjson.dumps([MESSAGE]),
)


@pytest.fixture
async def client(start: Start) -> AsyncIterator[Client]:
    """Starts a sandbox with the given settings; returns the package's client and a plain one."""
    async with AsyncExitStack() as stack:

        async def client(**settings: Any) -> tuple[Any, Caller]:
            caller = await start(**settings)
            package = AsyncOpenAI(base_url=caller.base_url, api_key="sk-test", max_retries=0, timeout=600)
            return await stack.enter_async_context(package), caller

        yield client


async def all_events(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def test_a_foreground_stream_has_the_whole_response(client: Client) -> None:
    package, caller = await client(latency=AT_ONCE)
    events = await all_events(await package.responses.create(model="gpt-5-mini", input=TEXT, stream=True))
    types = [event.type for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    items = [name.rpartition(".")[2] for name in types if "output_item" in name]
    assert items == ["added", "done", "added", "done"]
    assert types[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))

    done = events[-1].response
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == done.output_text
    assert (await caller.seen(done.id))["usage"]["total_tokens"] == done.usage.total_tokens
    assert (await caller.ledger())["seen_by_client"]["responses"] == {"completed": 1}


async def test_the_packages_own_reader_understands_it(client: Client) -> None:
    package, _ = await client(latency=AT_ONCE)
    async with package.responses.stream(model="gpt-4.1", input=TEXT) as stream:
        final = await stream.get_final_response()
    assert final.output_text


async def test_a_stream_lasts_as_long_as_its_response(client: Client, clock: FakeClock) -> None:
    package, _ = await client(latency={"queue": 10, "run": 20})
    began = clock.now()
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, background=True, stream=True)

    async def let_time_pass() -> None:
        while True:
            await clock.advance_to_next()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(let_time_pass)
        events = await all_events(stream)
        tasks.cancel_scope.cancel()
    assert events[-1].type == "response.completed"
    assert clock.now() - began == pytest.approx(30)


async def test_a_cancel_ends_a_stream_without_an_event(client: Client, clock: FakeClock) -> None:
    package, caller = await client()
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, background=True, stream=True)
    first = await anext(aiter(stream))
    await caller.cancel(first.response.id)
    await clock.advance_to_next()
    rest = await all_events(stream)
    assert [event.type for event in rest] == ["response.queued"]


async def test_leaving_a_foreground_stream_cancels_its_response(client: Client) -> None:
    package, caller = await client()
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, stream=True)
    response_id = (await anext(aiter(stream))).response.id
    await stream.close()
    while (await caller.seen(response_id))["status"] != "cancelled":
        await anyio.lowlevel.checkpoint()


async def test_a_response_whose_stream_is_left_too_early_stays_queued(client: Client, clock: FakeClock) -> None:
    package, caller = await client(faults={"stuck_when_left": 1})
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, background=True, stream=True)
    response_id = (await anext(aiter(stream))).response.id
    await stream.close()
    # The server notices it a little later.
    while not (await caller.ledger())["streams"].get("left"):
        await anyio.lowlevel.checkpoint()
    clock.advance(1_000_000)
    assert (await caller.seen(response_id))["status"] == "queued"
    assert (await caller.cancel(response_id)).json()["status"] == "cancelled"


async def test_a_response_whose_stream_is_left_while_it_runs_continues(client: Client, clock: FakeClock) -> None:
    package, caller = await client(faults={"stuck_when_left": 1})
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, background=True, stream=True)
    response_id = (await anext(aiter(stream))).response.id
    clock.advance(10)
    await stream.close()
    clock.advance(20)
    assert (await caller.seen(response_id))["status"] == "completed"


async def test_an_error_ends_a_stream_but_not_its_response(client: Client) -> None:
    package, _ = await client(latency=AT_ONCE, faults={"stream_error": 1})
    stream = await package.responses.create(model="gpt-4.1", input=TEXT, background=True, stream=True)
    events = await all_events(stream)
    assert (events[-1].type, events[-1].code) == ("error", "server_error")
    assert events[-1].sequence_number == events[-2].sequence_number
    assert (await package.responses.retrieve(events[0].response.id)).status == "completed"


@pytest.mark.parametrize(
    "query", [{"starting_after": "3"}, {"stream": "true"}, {"stream": "true", "starting_after": "x"}]
)
async def test_an_impossible_stream_is_refused(client: Client, query: dict[str, str]) -> None:
    _, caller = await client(latency=AT_ONCE)
    response = await caller.created()
    reply = await caller.http.get(f"/responses/{response['id']}", params=query)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


def test_events_are_due_while_their_response_runs() -> None:
    events = events_of(RECORD)
    assert [event.number for event in events] == list(range(len(events)))
    assert [event.at for event in events] == sorted(event.at for event in events)
    when = {event.type: event.at for event in reversed(events)}
    assert (when["response.created"], when["response.queued"], when["response.in_progress"]) == (100, 100, 110)
    assert 110 < when["response.output_text.delta"] < when["response.completed"] == 130


@pytest.mark.parametrize("part", [{"type": "output_text", "text": TEXT}, {"type": "refusal", "refusal": TEXT}])
def test_deltas_add_up_to_the_whole(part: dict[str, str]) -> None:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    events = events_of(replace(RECORD, output=orjson.dumps([item])))
    assert "".join(event.fields["delta"] for event in events if event.type.endswith(".delta")) == TEXT


def test_a_function_call_arrives_in_pieces() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"year": 1831}'}
    events = events_of(replace(RECORD, output=orjson.dumps([call])))
    arguments = [event.fields for event in events if "arguments" in event.type]
    assert "".join(each.get("delta", "") for each in arguments) == arguments[-1]["arguments"] == call["arguments"]


HOSTED: dict[str, dict[str, Any]] = {
    "reasoning": {"summary": [{"type": "summary_text", "text": TEXT}]},
    "web_search_call": {"action": {"type": "search", "query": "harvest"}},
    "file_search_call": {"queries": ["harvest"], "results": None},
    "code_interpreter_call": {"code": TEXT, "container_id": "cntr_1", "outputs": None},
    "image_generation_call": {"result": "AAAA"},
    "mcp_list_tools": {"server_label": "archive", "tools": []},
    "mcp_call": {"server_label": "archive", "name": "search", "arguments": '{"query": "harvest"}', "output": "none"},
    "mcp_approval_request": {"server_label": "archive", "name": "search", "arguments": "{}"},
    "custom_tool_call": {"call_id": "call_1", "name": "run_sql", "input": TEXT},
}


@pytest.mark.parametrize("kind", HOSTED)
def test_every_kind_of_item_has_its_events(kind: str) -> None:
    """The official package knows each event, and accepts its fields."""
    item = {"type": kind, "id": "item_1", "status": "completed"} | HOSTED[kind]
    events = events_of(replace(RECORD, output=orjson.dumps([item])))
    reader = TypeAdapter[Any](ResponseStreamEvent)
    received = [reader.validate_python(orjson.loads(frame(event).split(b"data: ")[1])) for event in events[3:-1]]
    assert [received[0].type, received[-1].type] == ["response.output_item.added", "response.output_item.done"]
    assert received[-1].item.model_dump(exclude_none=True) == {name: v for name, v in item.items() if v is not None}
    steps = [event.type.removeprefix(f"response.{kind}.") for event in received if f".{kind}." in event.type]
    assert steps == {"web_search_call": ["in_progress", "searching", "completed"]}.get(kind, steps)
    assert steps[-1:] in ([], ["completed"])


async def test_a_background_stream_is_resumed_where_it_stopped(client: Client) -> None:
    package, _ = await client(latency=AT_ONCE)
    stream = await package.responses.create(model="gpt-5-mini", input=TEXT, background=True, stream=True)
    whole = await all_events(stream)
    again = await package.responses.retrieve(whole[0].response.id, stream=True, starting_after=4)
    assert [event.to_dict() for event in await all_events(again)] == [event.to_dict() for event in whole[5:]]


async def test_a_broken_stream_can_be_followed_to_its_end(client: Client) -> None:
    package, _ = await client(latency=AT_ONCE, faults={"stream_drop": 0.7})
    events: list[Any] = []
    stream = await package.responses.create(model="gpt-5-mini", input=TEXT, background=True, stream=True)
    breaks = 0
    while not events or events[-1].type != "response.completed":
        try:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before the break is kept
        except openai.APIConnectionError:
            breaks += 1
            last = events[-1].sequence_number
            stream = await package.responses.retrieve(events[0].response.id, stream=True, starting_after=last)
    assert breaks > 0
    assert [event.sequence_number for event in events] == list(range(len(events)))
