"""Files: uploaded with the official package, handed back byte for byte, and gone when deleted or expired."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from orchestrator.testing import FakeClock

from .callers import Start

pytestmark = pytest.mark.anyio

# Line ends of every kind, and what looks like the end of a form.
AWKWARD = b"\r\n--boundary\n\r\x00\xff--\r\n\r\nend\r\n"


@pytest.fixture
async def package(start: Start) -> AsyncIterator[Any]:
    base_url = (await start()).base_url
    async with AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0, timeout=600) as package:
        yield package


async def test_a_file_comes_back_as_it_was(package: Any) -> None:
    uploaded = await package.files.create(file=("speech.bin", AWKWARD), purpose="user_data")
    assert (uploaded.filename, uploaded.bytes, uploaded.purpose) == ("speech.bin", len(AWKWARD), "user_data")
    assert await package.files.retrieve(uploaded.id) == uploaded
    assert (await package.files.content(uploaded.id)).content == AWKWARD


async def test_files_are_listed_in_pages_and_by_purpose(package: Any) -> None:
    for n in range(5):
        await package.files.create(file=(f"{n}.txt", b"x"), purpose="batch" if n % 2 else "user_data")
    names = [file.filename async for file in package.files.list(limit=2, order="asc")]
    assert names == [f"{n}.txt" for n in range(5)]
    assert [file.filename async for file in package.files.list(purpose="batch")] == ["3.txt", "1.txt"]


async def test_a_deleted_file_is_gone(package: Any) -> None:
    file_id = (await package.files.create(file=("x.txt", b"x"), purpose="user_data")).id
    assert (await package.files.delete(file_id)).deleted
    for call in (package.files.retrieve, package.files.content, package.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(file_id)


async def test_a_file_expires_when_it_was_asked_to(package: Any, clock: FakeClock) -> None:
    lifetime = {"anchor": "created_at", "seconds": 3600}
    file_id = (await package.files.create(file=("x.txt", b"x"), purpose="batch", expires_after=lifetime)).id
    clock.advance(3599)
    assert (await package.files.retrieve(file_id)).expires_at == 1_700_003_600
    clock.advance(1)
    assert [file.id async for file in package.files.list()] == []
    with pytest.raises(openai.NotFoundError):
        await package.files.retrieve(file_id)


async def test_a_wrong_upload_is_refused(start: Start) -> None:
    caller = await start()
    replies = [
        await caller.http.post("/files", json={"purpose": "batch"}),
        await caller.http.post("/files", files={"file": b"x"}),
        await caller.http.post("/files", files={"file": b"x"}, data={"purpose": "fun"}),
        await caller.http.post("/files", files={"other": b"x"}, data={"purpose": "batch"}),
    ]
    assert [(reply.status_code, reply.json()["error"]["param"]) for reply in replies] == [
        (400, None),
        (400, "purpose"),
        (400, "purpose"),
        (400, "file"),
    ]


@pytest.mark.parametrize("seconds", ["60", "2592001", "x"])
async def test_a_lifetime_is_an_hour_to_thirty_days(start: Start, seconds: str) -> None:
    caller = await start()
    form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
    reply = await caller.http.post("/files", files={"file": b"x"}, data=form)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "expires_after.seconds")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"The army is small.", "The army is small."),
        (("x" + "\u00e9" * 150_000).encode(), "x\u00e9"),
        (b"\x00\x01binary", ""),
        (b"\xff\xfe", ""),
    ],
    ids=["text", "cut within a character", "zero bytes", "no utf-8"],
)
async def test_what_is_text_is_read(start: Start, content: bytes, read: str) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    uploaded = await caller.http.post("/files", files={"file": content}, data={"purpose": "user_data"})
    data = "data:text/plain;base64," + b64encode(content).decode()
    for part in ({"file_id": uploaded.json()["id"]}, {"filename": "x.txt", "file_data": data}):
        said = [{"role": "user", "content": [{"type": "input_file", **part}]}]
        response = await caller.created(model="gpt-4.1", background=False, input=said)
        assert response["output"][-1]["content"][0]["text"].startswith(read or "There is no text")


async def test_a_file_may_go_after_it_was_read(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    uploaded = await caller.http.post("/files", files={"file": b"Peace."}, data={"purpose": "user_data"})
    file_id = uploaded.json()["id"]
    said = [{"role": "user", "content": [{"type": "input_file", "file_id": file_id}]}]
    first = await caller.created(background=False, input=said)
    await caller.http.delete(f"/files/{file_id}")
    again = await caller.create(background=False, input=said)
    assert (again.status_code, again.json()["error"]["message"]) == (400, f"No such File object: {file_id}")
    assert (await caller.create(background=False, previous_response_id=first["id"], input="And?")).status_code == 200
