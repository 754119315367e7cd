"""The official ``openai`` package works against the sandbox as it does against the real API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import openai
import pytest
from openai import AsyncOpenAI
from openai.lib._pydantic import to_strict_json_schema as strict_schema
from pydantic import BaseModel

from orchestrator.testing import FakeClock

from .callers import TEXT, Start

pytestmark = pytest.mark.anyio

Client: TypeAlias = Callable[..., Any]
AT_ONCE = {"queue": 0, "run": 0}


@pytest.fixture
async def client(start: Start) -> AsyncIterator[Client]:
    """Starts a sandbox with the given settings, and the package's client for it."""
    async with AsyncExitStack() as stack:

        async def client(api_key: str = "sk-test", **settings: Any) -> AsyncOpenAI:
            base_url = (await start(**settings)).base_url
            package = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=600)
            return await stack.enter_async_context(package)

        yield client


async def test_create_from_a_string(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.create(model="gpt-5-mini", input=f"Give one sentence:\n\n{TEXT}")
    assert response.status == "completed"
    assert response.output_text in TEXT
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_create_from_an_array(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.create(
        model="gpt-4.1",
        instructions="Summarise in two sentences.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}],
        temperature=0.3,
        max_output_tokens=500,
        metadata={"topic": "harvest"},
    )
    assert response.output_text.count(".") == 2
    assert (response.temperature, response.max_output_tokens) == (0.3, 500)
    assert response.metadata == {"topic": "harvest", "sandbox": "simulated"}


async def test_instructions_are_followed_and_not_carried_over(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    first = await openai_client.responses.create(
        model="gpt-5-mini", instructions="Answer in one sentence.", input=TEXT
    )
    assert (first.instructions, first.output_text.count(".")) == ("Answer in one sentence.", 1)
    second = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, previous_response_id=first.id)
    assert (second.instructions, second.output_text.count(".")) == (None, 3)


async def test_controls_are_echoed(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    asked: dict[str, Any] = {
        "max_output_tokens": 2000,
        "max_tool_calls": 3,
        "parallel_tool_calls": False,
        "prompt_cache_key": "speeches",
        "safety_identifier": "user-1",
        "store": True,
        "top_logprobs": 2,
        "truncation": "auto",
    }
    response = await openai_client.responses.create(
        model="gpt-5-mini",
        input=TEXT,
        service_tier="flex",
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        **asked,
    )
    echoed = response.to_dict()
    assert {name: echoed[name] for name in asked} == asked
    assert (response.service_tier, response.text.verbosity) == ("flex", "low")
    assert (response.reasoning.effort, response.reasoning.summary) == ("low", "auto")
    assert response.output[0].summary[0].text


async def test_the_cap_cuts_the_answer_off(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.create(model="gpt-4.1", input=TEXT, max_output_tokens=16)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens <= 16


async def test_a_stream_of_typed_events(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    stream = await openai_client.responses.create(model="gpt-4.1", input=TEXT, stream=True)
    events = [event async for event in stream]
    kinds = [type(event).__name__ for event in events]
    assert kinds[:2] == ["ResponseCreatedEvent", "ResponseInProgressEvent"]
    assert kinds[-1] == "ResponseCompletedEvent"
    assert {"ResponseTextDeltaEvent", "ResponseContentPartDoneEvent"} <= set(kinds)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


async def test_a_background_stream_is_resumed_after_a_number(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    stream = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, background=True, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if event.sequence_number == 5:
            break
    await stream.close()
    rest = await openai_client.responses.retrieve(seen[0].response.id, stream=True, starting_after=5)
    seen += [event async for event in rest]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"


async def test_create_in_the_background_and_poll(client: Client, clock: FakeClock) -> None:
    openai_client = await client()
    response = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, background=True)
    statuses = [response.status]
    while statuses[-1] not in ("completed", "failed"):
        clock.advance(10)
        response = await openai_client.responses.retrieve(response.id)
        statuses.append(response.status)
    assert statuses == ["queued", "in_progress", "in_progress", "completed"]
    assert response.output_text


async def test_cancel(client: Client) -> None:
    openai_client = await client()
    response = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, background=True)
    assert (await openai_client.responses.cancel(response.id)).status == "cancelled"


async def test_delete(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.create(model="gpt-5-mini", input=TEXT)
    await openai_client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        await openai_client.responses.retrieve(response.id)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_input_items_over_many_pages(client: Client, order: str) -> None:
    openai_client = await client(latency=AT_ONCE)
    said = [{"role": "user", "content": f"message {n}"} for n in range(7)]
    response = await openai_client.responses.create(model="gpt-5-mini", input=said)
    pages = openai_client.responses.input_items.list(response.id, order=order, limit=3)
    texts = [item.content[0].text async for item in pages]
    assert texts == [f"message {n}" for n in (range(7) if order == "asc" else range(6, -1, -1))]


async def test_input_tokens(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    counted = await openai_client.responses.input_tokens.count(model="gpt-5-mini", input=TEXT)
    response = await openai_client.responses.create(model="gpt-5-mini", input=TEXT)
    assert counted.input_tokens == response.usage.input_tokens


async def test_models(client: Client) -> None:
    openai_client = await client()
    assert "gpt-5-mini" in [model.id async for model in openai_client.models.list()]
    assert (await openai_client.models.retrieve("o3")).id == "o3"


async def test_a_batch(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    body = {"model": "gpt-4.1-nano", "input": TEXT}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/responses", "body": body} for n in range(3)]
    text = "\n".join(json.dumps(line) for line in lines)
    uploaded = await openai_client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    batch = await openai_client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/responses", completion_window="24h"
    )
    batch = await openai_client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    answers = (await openai_client.files.content(batch.output_file_id)).text.splitlines()
    assert [json.loads(answer)["custom_id"] for answer in answers] == ["0", "1", "2"]


async def test_a_structured_answer_is_parsed(client: Client) -> None:
    class Speech(BaseModel):
        title: str
        year: int
        topics: list[str]

    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.parse(model="gpt-5-mini", input=TEXT, text_format=Speech)
    assert isinstance(response.output_parsed, Speech)


async def test_a_structured_answer_is_parsed_from_a_stream(client: Client) -> None:
    class Speech(BaseModel):
        title: str
        year: int

    openai_client = await client(latency=AT_ONCE)
    async with openai_client.responses.stream(model="gpt-4.1", input=TEXT, text_format=Speech) as stream:
        final = await stream.get_final_response()
    assert isinstance(final.output_parsed, Speech)


async def test_a_loop_of_function_calls(client: Client) -> None:
    class HarvestOf(BaseModel):
        """The harvest of a year."""

        year: int

    openai_client = await client(latency=AT_ONCE, tools={"rounds": 3, "calls": 2})
    tool = {"type": "function", "name": "harvest_of", "parameters": strict_schema(HarvestOf), "strict": True}
    response = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, tools=[tool])
    rounds = 0
    while calls := [item for item in response.output if item.type == "function_call"]:
        rounds += 1
        results = [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": f"{HarvestOf.model_validate_json(call.arguments).year} bushels in round {rounds}",
            }
            for call in calls
        ]
        response = await openai_client.responses.create(
            model="gpt-5-mini", previous_response_id=response.id, input=results, tools=[tool]
        )
    assert rounds == 3
    assert "bushels in round 3" in response.output_text


async def test_hosted_tools_are_typed_items(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.create(
        model="gpt-4.1",
        input=TEXT,
        tools=[
            {"type": "web_search"},
            {"type": "file_search", "vector_store_ids": ["vs_1"]},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"type": "image_generation"},
            {"type": "mcp", "server_label": "archive", "server_url": "https://x.test", "require_approval": "never"},
        ],
        include=["web_search_call.action.sources", "file_search_call.results", "code_interpreter_call.outputs"],
    )
    search, files, code, image, listed, called, message = response.output
    assert search.action.sources[0].url
    assert files.results[0].text
    assert (code.container_id[:5], code.outputs[0].type) == ("cntr_", "logs")
    assert image.result
    assert (listed.tools[0].name, called.name, called.server_label) == ("search", "search", "archive")
    assert message.content[0].text == response.output_text


async def test_an_approval_is_requested_and_given(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    tools = [{"type": "mcp", "server_label": "archive", "server_url": "https://x.test"}]
    first = await openai_client.responses.create(model="gpt-4.1", input=TEXT, tools=tools)
    request = first.output[-1]
    assert request.type == "mcp_approval_request"
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    second = await openai_client.responses.create(
        model="gpt-4.1", previous_response_id=first.id, input=[answer], tools=tools
    )
    assert [item.type for item in second.output] == ["mcp_call", "message"]


async def test_a_chain_by_previous_response(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    first = await openai_client.responses.create(model="gpt-4.1", input=TEXT)
    second = await openai_client.responses.create(model="gpt-4.1", input="And then?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    pages = openai_client.responses.input_items.list(second.id, order="asc")
    assert [(item.role, item.content[0].text) async for item in pages] == [
        ("user", TEXT),
        ("assistant", first.output_text),
        ("user", "And then?"),
    ]


async def test_a_deleted_parent_breaks_the_chain(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    first = await openai_client.responses.create(model="gpt-4.1", input=TEXT)
    await openai_client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.responses.create(model="gpt-4.1", input="And?", previous_response_id=first.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_an_unstored_parent_breaks_the_chain(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    first = await openai_client.responses.create(model="gpt-4.1", input=TEXT, store=False)
    with pytest.raises(openai.BadRequestError, match="not found"):
        await openai_client.responses.create(model="gpt-4.1", input="And?", previous_response_id=first.id)


async def test_a_conversation_with_items(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    conversations = openai_client.conversations
    begun = await conversations.create(items=[{"role": "user", "content": TEXT}], metadata={"topic": "harvest"})
    assert (await conversations.retrieve(begun.id)).metadata == {"topic": "harvest"}
    response = await openai_client.responses.create(model="gpt-4.1", input="And trade?", conversation=begun.id)
    assert response.conversation.id == begun.id
    added = await conversations.items.create(begun.id, items=[{"role": "user", "content": "And the army?"}])
    pages = conversations.items.list(begun.id, order="asc", limit=2)
    texts = [item.content[0].text async for item in pages]
    assert texts == [TEXT, "And trade?", response.output_text, "And the army?"]
    last = added.data[0].id
    assert (await conversations.items.retrieve(last, conversation_id=begun.id)).id == last
    await conversations.items.delete(last, conversation_id=begun.id)
    assert len([item async for item in conversations.items.list(begun.id)]) == 3
    assert (await conversations.update(begun.id, metadata={"topic": "trade"})).metadata == {"topic": "trade"}
    assert (await conversations.delete(begun.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await conversations.retrieve(begun.id)


async def test_a_conversation_takes_one_response_at_a_time(client: Client) -> None:
    openai_client = await client()
    begun = await openai_client.conversations.create()
    asked = {"model": "gpt-4.1", "input": TEXT, "background": True, "conversation": begun.id}
    await openai_client.responses.create(**asked)
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.responses.create(**asked)
    assert caught.value.code == "conversation_locked"


async def test_a_long_conversation_is_compacted(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    first = await openai_client.responses.create(model="gpt-4.1-nano", input=TEXT)
    short = await openai_client.responses.compact(
        model="gpt-4.1-nano", previous_response_id=first.id, input="What of the army?"
    )
    assert (short.object, [item.type for item in short.output]) == (
        "response.compaction",
        ["message", "message", "compaction"],
    )
    assert short.usage.input_tokens > first.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        await openai_client.responses.retrieve(short.id)
    # The package has no type for a user's message among the output.
    continued = [*(item.to_dict(warnings=False) for item in short.output), {"role": "user", "content": "And peace?"}]
    response = await openai_client.responses.create(model="gpt-4.1-nano", input=continued)
    assert response.usage.input_tokens > short.usage.output_tokens


async def test_files(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    files = openai_client.files
    uploaded = await files.create(file=("speech.txt", TEXT.encode()), purpose="user_data")
    assert (await files.content(uploaded.id)).text == TEXT
    assert [each.id async for each in files.list()] == [uploaded.id]
    part = {"type": "input_file", "file_id": uploaded.id}
    said = [{"role": "user", "content": [{"type": "input_text", "text": "Summarise:"}, part]}]
    response = await openai_client.responses.create(model="gpt-4.1", input=said)
    assert response.output_text in TEXT
    assert (await files.delete(uploaded.id)).deleted
    with pytest.raises(openai.BadRequestError, match="No such File object"):
        await openai_client.responses.create(model="gpt-4.1", input=said)


@pytest.mark.parametrize(
    "metadata", [{str(n): "x" for n in range(17)}, {"k" * 65: "x"}, {"k": "x" * 513}], ids=["pairs", "key", "value"]
)
async def test_metadata_has_limits(client: Client, metadata: dict[str, str]) -> None:
    openai_client = await client(latency=AT_ONCE)
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.responses.create(model="gpt-4.1", input=TEXT, metadata=metadata)
    assert str(caught.value.param).startswith("metadata")


async def test_a_function_is_called_and_its_result_is_used(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE)
    parameters = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    tools = [{"type": "function", "name": "harvest_of", "parameters": parameters, "strict": False}]
    first = await openai_client.responses.create(model="gpt-5-mini", input=TEXT, tools=tools)
    call = first.output[-1]
    assert (call.type, call.name) == ("function_call", "harvest_of")
    second = await openai_client.responses.create(
        model="gpt-5-mini",
        previous_response_id=first.id,
        tools=tools,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "4 million bushels"}],
    )
    assert second.output_text


async def test_the_raw_response_has_the_headers(client: Client) -> None:
    openai_client = await client(latency=AT_ONCE, limits={"requests_per_minute": 10})
    raw = await openai_client.responses.with_raw_response.create(model="gpt-5-mini", input=TEXT)
    assert raw.headers["x-ratelimit-remaining-requests"] == "9"
    assert raw.parse().status == "completed"
    assert raw.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("error", "settings", "fields"),
    [
        (openai.BadRequestError, {}, {"max_output_tokens": 1}),
        (openai.AuthenticationError, {"api_key": "sk-bad"}, {}),
        (openai.PermissionDeniedError, {"faults": {"forbidden": 1}}, {}),
        (openai.NotFoundError, {}, {"model": "gpt-99"}),
        (openai.ConflictError, {"faults": {"conflict": 1}}, {}),
        (openai.UnprocessableEntityError, {"faults": {"unprocessable": 1}}, {}),
        (openai.RateLimitError, {}, {"model": "sandbox-rate-limited"}),
        (openai.InternalServerError, {"faults": {"server_error": 1}}, {}),
        (openai.InternalServerError, {"faults": {"overloaded": 1}}, {}),
        (openai.APIConnectionError, {"faults": {"drop_after": 1}}, {}),
        (openai.APITimeoutError, {"faults": {"hang": 1}}, {"timeout": 0.2}),
    ],
)
async def test_each_error_has_its_class(
    client: Client, error: type[openai.APIError], settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    openai_client = await client(**settings)
    with pytest.raises(error) as caught:
        await openai_client.responses.create(**{"model": "gpt-5-mini", "input": TEXT} | fields)
    if isinstance(caught.value, openai.APIStatusError):
        assert caught.value.message
        assert caught.value.request_id
