"""Batches: our files are those of the official package, results are read leniently, and every call is bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response as PackageResponse

from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.batch_lines import ResultLine, input_line, parse_result_line, split_lines
from orchestrator.provider.batches import Batch, BatchClient, BatchUpload
from orchestrator.provider.client import CallFailed
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.transport import Endpoint
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.testing import FakeClock
from tests.provider.raw_server import Connection, RawServer

pytestmark = pytest.mark.anyio

BODY = b'{"model":"gpt-4.1-nano","input":"The harvest was good this year.","metadata":{"orchestrator_run":"r"}}'
LINES = [input_line(str(number), BODY) for number in range(3)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[str]:
    settings = SandboxSettings.model_validate({"latency": {"queue": 1, "run": 10}})
    async with running_sandbox(settings, clock=clock) as base_url:
        yield base_url


def client_of(base_url: str) -> BatchClient:
    endpoint = Endpoint(base_url=base_url, headers={"Authorization": "Bearer sk-test"}, read_timeout_s=5)
    return BatchClient(AsyncioTransport(endpoint), HttpxTransport(endpoint))


@pytest.fixture
async def client(sandbox: str) -> AsyncIterator[BatchClient]:
    client = client_of(sandbox)
    yield client
    await client.aclose()


@pytest.fixture
async def package(sandbox: str) -> AsyncIterator[Any]:
    async with AsyncOpenAI(base_url=sandbox, api_key="sk-test", max_retries=0) as package:
        yield package


def answer_with(server: RawServer, body: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(body)

    server.script = script


def upload_of(*lines: bytes) -> BatchUpload:
    async def pieces() -> AsyncIterator[bytes]:
        for line in lines:
            yield line

    return BatchUpload(name="batch.jsonl", size=sum(map(len, lines)), pieces=pieces())


async def results(client: BatchClient, file_id: str | None) -> dict[str, ResultLine]:
    assert file_id is not None
    read = [parse_result_line(line, {}) async for line in client.result_lines(file_id)]
    return {line.custom_id: line for line in read if line is not None}


async def test_the_official_package_reads_our_file_and_its_results(
    client: BatchClient, package: Any, clock: FakeClock
) -> None:
    file_id = await client.upload_batch(upload_of(*LINES))
    assert isinstance(file_id, str)
    file = await package.files.retrieve(file_id)
    assert (file.purpose, file.bytes, file.filename) == ("batch", sum(map(len, LINES)), "batch.jsonl")
    assert file.expires_at == file.created_at + 3 * 86_400
    batch = await package.batches.create(
        input_file_id=file_id, endpoint="/v1/responses", completion_window="24h", metadata={"mark": "m"}
    )
    clock.advance(12)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    text = (await package.files.content(batch.output_file_id)).text
    theirs = [PackageResponse.model_validate(json.loads(line)["response"]["body"]) for line in text.splitlines()]
    ours = await results(client, batch.output_file_id)
    assert ours.keys() == {"0", "1", "2"}
    assert {each.response.output_text for each in ours.values() if each.response} == {
        each.output_text for each in theirs
    }


async def test_we_read_what_the_official_package_has_asked(
    client: BatchClient, package: Any, clock: FakeClock
) -> None:
    asked = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": json.loads(BODY)}
    wrong = asked | {"custom_id": "b", "body": {"model": "gpt-99", "input": "x"}}
    content = "\n".join(map(json.dumps, (asked, wrong))).encode()
    file = await package.files.create(file=("in.jsonl", content), purpose="batch")
    batch = await client.create_batch(file.id, {"mark": "m"})
    assert isinstance(batch, Batch)
    clock.advance(12)
    seen = await client.batch(batch.id)
    assert isinstance(seen, Batch)
    assert (seen.status, seen.answered, seen.refused) == ("completed", 1, 1)
    output, errors = await results(client, seen.output_file), await results(client, seen.error_file)
    assert output["a"].response is not None
    assert output["a"].response.metadata is not None
    assert output["a"].response.metadata["orchestrator_run"] == "r"
    refusal = errors["b"].refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (404, "model_not_found")


async def test_a_batch_is_found_again_by_its_mark(client: BatchClient, clock: FakeClock) -> None:
    file_id = await client.upload_batch(upload_of(*LINES))
    assert isinstance(file_id, str)
    made = [await client.create_batch(file_id, {"mark": str(number)}) for number in range(3)]
    found = await client.find_batches("mark", since=0.0)
    assert {mark: batch.id for mark, batch in found.items()} == {
        str(number): batch.id for number, batch in enumerate(made) if isinstance(batch, Batch)
    }
    assert await client.find_batches("another", since=0.0) == {}
    cancelled = await client.cancel_batch(found["0"].id)
    assert isinstance(cancelled, Batch)
    assert cancelled.status == "cancelling"
    assert await client.delete(file_id, of="files") is True
    assert await client.delete(file_id, of="files") is False


async def test_problems_are_values(client: BatchClient) -> None:
    assert isinstance(await client.batch("batch_x"), Refused)
    assert isinstance(await client.create_batch("file-x", {}), Refused)
    with pytest.raises(CallFailed):
        await results(client, "file-x")
    gone = client_of("http://127.0.0.1:9")
    assert isinstance(await gone.upload_batch(upload_of(b"x")), NeverSent)
    with pytest.raises(CallFailed):
        await gone.find_batches("mark", since=0.0)
    await gone.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"id":1,"status":"completed"}',
        b'{"id":"batch_1"}',
        b'{"id":"","status":"x"}',
    ],
)
async def test_a_reply_that_is_no_batch_is_lost(server: RawServer, body: bytes) -> None:
    answer_with(server, body)
    client = client_of(server.url)
    assert isinstance(await client.batch("batch_1"), ReplyLost)
    await client.aclose()


async def test_fields_of_the_wrong_type_count_as_absent(server: RawServer) -> None:
    body = json.dumps(
        {
            "id": "batch_1",
            "status": "new word",
            "output_file_id": "",
            "error_file_id": 7,
            "metadata": [],
            "errors": {"data": [1, {"line": "x", "code": 3}, {"line": 4, "message": "m"}]},
            "request_counts": 1,
            "created_at": "yesterday",
        }
    ).encode()
    answer_with(server, body)
    client = client_of(server.url)
    batch = await client.batch("batch_1")
    assert isinstance(batch, Batch)
    assert (batch.output_file, batch.error_file, batch.metadata, batch.created_at) == (None, None, None, None)
    assert [(error.line, error.message) for error in batch.errors] == [(None, ""), (4, "m")]
    await client.aclose()


async def test_lines_are_split_as_they_arrive_and_bounded() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"a\nb", b"b\n\n  \n", b"c" * 20, b"c\nd" + b"d" * 9, b"\n", b"last"):
            yield chunk

    assert [line async for line in split_lines(chunks(), most_bytes=10)] == [b"a", b"bb", b"d" * 10, b"last"]


def result(**fields: Any) -> ResultLine | None:
    return parse_result_line(json.dumps({"custom_id": "7"} | fields).encode(), {})


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b"{}", b'{"custom_id":7}', b'{"custom_id":""}', b"\xff"])
def test_a_line_without_an_owner_is_left_out(line: bytes) -> None:
    assert parse_result_line(line, {}) is None


def test_a_line_has_a_response_a_refusal_or_an_error() -> None:
    done = {"id": "resp_1", "status": "completed", "output": []}
    answered = result(response={"status_code": 200, "body": done}, error=None)
    assert answered is not None
    assert answered.response is not None
    assert answered.response.id == "resp_1"
    refused = result(response={"status_code": 500, "body": {"error": {"code": "server_error", "message": "m"}}})
    assert refused is not None
    assert refused.refusal == Refused(status=500, code="server_error", message="m")
    expired = result(response=None, error={"code": "batch_expired", "message": "too late"})
    assert expired == ResultLine(custom_id="7", error_code="batch_expired", message="too late")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response": None, "error": None},
        {"response": 7, "error": 7},
        {"response": {"status_code": 200}},
        {"response": {"status_code": 200, "body": {}}},
        {"response": {"status_code": 200, "body": "<html>"}},
        {"response": {"status_code": 200, "body": {"id": "resp_1", "status": "in_progress"}}},
        {"response": {"status_code": "200", "body": [1]}},
    ],
)
def test_what_cannot_be_read_is_neither(fields: dict[str, Any]) -> None:
    line = result(**fields)
    assert line is not None
    assert (line.custom_id, line.response, line.refusal, line.error_code) == ("7", None, None, None)
