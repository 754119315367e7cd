"""The official ``openai`` package works against the sandbox as it does against the real API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import openai
import pytest
from openai import AsyncOpenAI

from orchestrator.testing import FakeClock

from .callers import TEXT, Start

pytestmark = pytest.mark.anyio

Client: TypeAlias = Callable[..., Any]
AT_ONCE = {"queue": 0, "run": 0}


@pytest.fixture
async def client(start: Start) -> AsyncIterator[Client]:
    """Starts a sandbox with the settings given, and the package's own client for it."""
    async with AsyncExitStack() as stack:

        async def client(api_key: str = "sk-test", **settings: Any) -> AsyncOpenAI:
            base_url = (await start(**settings)).base_url
            package = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=5)
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


async def test_a_structured_answer_is_parsed(client: Client) -> None:
    from pydantic import BaseModel

    class Speech(BaseModel):
        title: str
        year: int
        topics: list[str]

    openai_client = await client(latency=AT_ONCE)
    response = await openai_client.responses.parse(model="gpt-5-mini", input=TEXT, text_format=Speech)
    assert isinstance(response.output_parsed, Speech)


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
        (openai.AuthenticationError, {"api_key": "sk-bad"}, {}),
        (openai.BadRequestError, {}, {"max_output_tokens": 1}),
        (openai.NotFoundError, {}, {"model": "gpt-99"}),
        (openai.RateLimitError, {}, {"model": "sandbox-rate-limited"}),
        (openai.InternalServerError, {"faults": {"server_error": 1}}, {}),
        (openai.InternalServerError, {"faults": {"overloaded": 1}}, {}),
        (openai.APIConnectionError, {"faults": {"drop_after": 1}}, {}),
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
