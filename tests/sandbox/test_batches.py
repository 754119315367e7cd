"""Batches: uploaded, created, followed and read with the official package."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import openai
import pytest
from openai import AsyncOpenAI

from orchestrator.testing import FakeClock

from .callers import TEXT, Caller, Start

pytestmark = pytest.mark.anyio

Client: TypeAlias = Callable[..., Any]


@pytest.fixture
async def client(start: Start) -> AsyncIterator[Client]:
    """Starts a sandbox with the given settings; returns the package's client and a plain one."""
    async with AsyncExitStack() as stack:

        async def client(**settings: Any) -> tuple[Any, Caller]:
            caller = await start(**settings)
            package = AsyncOpenAI(base_url=caller.base_url, api_key="sk-test", max_retries=0, timeout=600)
            return await stack.enter_async_context(package), caller

        yield client


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "gpt-4.1-nano", "input": TEXT} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": asked}


async def upload(package: Any, *lines: Any) -> str:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    return str((await package.files.create(file=("in.jsonl", text.encode()), purpose="batch")).id)


async def begin(package: Any, *lines: Any, **fields: Any) -> Any:
    return await package.batches.create(
        input_file_id=await upload(package, *lines), endpoint="/v1/responses", completion_window="24h", **fields
    )


async def read(package: Any, file_id: str) -> dict[str, Any]:
    content = await package.files.content(file_id)
    return {each["custom_id"]: each for each in map(json.loads, content.text.splitlines())}


async def test_a_batch_is_validated_runs_and_completes(client: Client, clock: FakeClock) -> None:
    package, caller = await client()
    # Batches have published prices from November 2026 on.
    clock.advance(1_794_000_000 - clock.now())
    batch = await begin(package, line("a"), line("b", background=True), metadata={"run": "r"})
    assert (batch.status, batch.metadata, batch.output_file_id) == ("validating", {"run": "r"}, None)
    clock.advance(10)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.in_progress_at - batch.created_at) == ("in_progress", 10)
    clock.advance(20)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.completed_at - batch.created_at, batch.error_file_id) == ("completed", 30, None)
    assert batch.request_counts.model_dump() == {"total": 2, "completed": 2, "failed": 0}

    answers = await read(package, batch.output_file_id)
    assert answers.keys() == {"a", "b"}
    replies = [each["response"] for each in answers.values()]
    assert [(reply["status_code"], reply["body"]["status"]) for reply in replies] == [(200, "completed")] * 2
    tokens = [reply["body"]["usage"] for reply in replies]
    assert batch.usage.total_tokens == sum(each["total_tokens"] for each in tokens)
    assert (await package.files.retrieve(batch.output_file_id)).purpose == "batch_output"

    ledger = await caller.ledger()
    assert ledger["batches"] == {"calls": 1, "refused": {"total": 0}, "most_enqueued_tokens": 94, "lines": 2}
    # Half of the usual price of gpt-4.1-nano.
    cost = sum(50_000 * each["input_tokens"] + 200_000 * each["output_tokens"] for each in tokens)
    assert ledger["cost_pusd"] == ledger["seen_by_client"]["cost_pusd"] == cost
    assert ledger["creates"]["accepted"] == 0


async def test_refused_lines_are_in_the_error_file(client: Client, clock: FakeClock) -> None:
    package, _ = await client()
    batch = await begin(package, line("good"), line("bad", model="gpt-99"), line("stream", stream=True))
    clock.advance(30)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.failed) == ("completed", 2)
    errors = await read(package, batch.error_file_id)
    assert {name: each["response"]["status_code"] for name, each in errors.items()} == {"bad": 404, "stream": 400}
    assert errors["bad"]["response"]["body"]["error"]["code"] == "model_not_found"
    assert (await read(package, batch.output_file_id)).keys() == {"good"}


async def test_a_batch_with_only_errors_has_no_output(client: Client, clock: FakeClock) -> None:
    package, _ = await client()
    batch = await begin(package, line("bad", model="gpt-99"))
    clock.advance(30)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("completed", None)


async def test_a_cancelled_batch_keeps_its_answers(client: Client, clock: FakeClock) -> None:
    package, caller = await client(latency={"queue": 0, "run": 20}, faults={"stuck_in_progress": 0.5})
    batch = await begin(package, *(line(str(n)) for n in range(6)))
    clock.advance(30)
    assert (await package.batches.retrieve(batch.id)).status == "in_progress"
    assert (await package.batches.cancel(batch.id)).status == "cancelling"
    clock.advance(1)
    batch = await package.batches.retrieve(batch.id)
    assert batch.status == "cancelled"
    answers, errors = await read(package, batch.output_file_id), await read(package, batch.error_file_id)
    assert sorted([*answers, *errors]) == [str(n) for n in range(6)]
    assert {each["error"]["code"] for each in errors.values()} == {"batch_cancelled"}
    assert all(each["response"] is None for each in errors.values())
    assert batch.request_counts.model_dump() == {"total": 6, "completed": len(answers), "failed": len(errors)}
    assert (await caller.ledger())["responses"] == {"completed": len(answers), "cancelled": len(errors)}


async def test_a_batch_expires_after_a_day(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"stuck_queued": 1})
    batch = await begin(package, line("a"))
    clock.advance(86_399)
    assert (await package.batches.retrieve(batch.id)).status == "in_progress"
    clock.advance(1)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("expired", None)
    errors = await read(package, batch.error_file_id)
    assert errors["a"]["error"]["code"] == "batch_expired"


@pytest.mark.parametrize(
    ("lines", "number", "param"),
    [
        (["{"], 1, None),
        (["[]"], 1, None),
        ([line("a"), line("a")], 2, "custom_id"),
        ([{"method": "POST"}], 1, "custom_id"),
        ([line("a") | {"method": "GET"}], 1, "method"),
        ([line("a") | {"url": "/v1/chat/completions"}], 1, "url"),
        ([line("a") | {"body": "x"}], 1, "body"),
        ([], None, None),
    ],
)
async def test_a_wrong_file_fails_the_batch(
    client: Client, clock: FakeClock, lines: list[Any], number: int | None, param: str | None
) -> None:
    package, _ = await client()
    batch = await begin(package, *lines)
    assert (batch.status, batch.errors) == ("validating", None)
    clock.advance(10)
    batch = await package.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert [(error.line, error.param) for error in batch.errors.data] == [(number, param)]


async def test_batches_are_listed_newest_first(client: Client) -> None:
    package, _ = await client()
    ids = [(await begin(package, line("a"))).id for _ in range(3)]
    assert [batch.id async for batch in package.batches.list(limit=2)] == ids[::-1]


@pytest.mark.parametrize(("dialect", "status"), [("return", 200), ("refuse", 400)])
async def test_cancelling_an_ended_batch_depends_on_the_server(
    client: Client, clock: FakeClock, dialect: str, status: int
) -> None:
    package, caller = await client(cancel_ended=dialect)
    batch = await begin(package, line("a"))
    clock.advance(30)
    assert (await caller.http.post(f"/batches/{batch.id}/cancel")).status_code == status


async def test_wrong_batches_are_refused(client: Client) -> None:
    package, _ = await client()
    good = {
        "input_file_id": await upload(package, line("a")),
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    }
    other = (await package.files.create(file=("x.txt", b"x"), purpose="user_data")).id
    for wrong, error in (
        ({"input_file_id": "file-x"}, openai.NotFoundError),
        ({"input_file_id": other}, openai.BadRequestError),
        ({"endpoint": "/v1/embeddings"}, openai.BadRequestError),
        ({"completion_window": "1h"}, openai.BadRequestError),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, openai.BadRequestError),
    ):
        with pytest.raises(error):
            await package.batches.create(**good | wrong)
    with pytest.raises(openai.NotFoundError):
        await package.batches.retrieve("batch_x")


async def test_files_are_kept_as_long_as_requested(client: Client, clock: FakeClock) -> None:
    package, _ = await client()
    batch = await begin(package, line("a"), output_expires_after={"anchor": "created_at", "seconds": 3600})
    clock.advance(30)
    batch = await package.batches.retrieve(batch.id)
    clock.advance(3600)
    with pytest.raises(openai.NotFoundError):
        await package.files.content(batch.output_file_id)
    assert (await package.files.retrieve(batch.input_file_id)).expires_at == batch.created_at + 30 * 86_400
