"""Replies that are too large, or too many large ones at once: bounded memory, and the other rows succeed."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import Config
from orchestrator.core.errors import ExitCode
from orchestrator.core.states import State
from orchestrator.testing import FastClock
from tests.provider.raw_server import Connection, serve_raw

from .rehearsal import RUN, Rehearsal, write_job

pytestmark = pytest.mark.anyio

MIB = 2**20
# The command, which at its end prints the most memory that its process has used.
MEASURED = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)
"""
# Small, so that the tests are quick; the ratios are those of the defaults.
LIMITS = {"reply_bytes": 2 * MIB, "reply_bytes_in_memory": 4 * MIB, "requests_per_minute": 60_000}


def an_answer(response_id: str, size: int) -> bytes:
    """A response that has ended, with a text of that size."""
    message = {"type": "message", "content": [{"type": "output_text", "text": "x" * size}]}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
    body = {"id": response_id, "object": "response", "status": "completed", "output": [message], "usage": usage}
    return json.dumps({**body, "model": "gpt-5-mini"}).encode()


@cache
def a_bomb(response_id: str) -> bytes:
    return gzip.compress(an_answer(response_id, 200 * MIB), 1)


async def send(connection: Connection, kind: str, response_id: str) -> None:
    """Answer a poll as the row asks for."""
    head = "Content-Type: application/json\r\n"
    match kind:
        case "small":
            await connection.answer(an_answer(response_id, 100), headers=head)
        case "large":
            await connection.answer(an_answer(response_id, 1_900_000), headers=head)
        case "too large":
            await connection.answer(an_answer(response_id, 3 * MIB), headers=head)
        case "bomb":
            body = a_bomb(response_id)
            await connection.answer(body, headers=f"{head}Content-Encoding: gzip\r\n")
        case "expands":
            body = gzip.compress(an_answer(response_id, 1_900_000), 1)
            await connection.answer(body, headers=f"{head}Content-Encoding: gzip\r\n")
        case "endless":
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await connection.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        case "huge" | "nearly huge":
            size = 60_000_000 if kind == "huge" else 24_000_000
            begin, end = an_answer(response_id, 1).split(b'"x"')
            length = len(begin) + len(end) + 2 + size
            await connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + begin + b'"')
            for _ in range(size // 100_000):
                await connection.send(b"x" * 100_000)
            await connection.send(b'"' + end)
        case "endless trailers":
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            for number in range(10**9):
                await connection.send(f"x-{number}: {'y' * 4_000}\r\n".encode())


async def provider(connection: Connection) -> None:
    """Accepts each create under the kind of its row, and answers its polls so."""
    while True:
        request = await connection.request()
        if request.method == "POST" and request.target.endswith("/responses"):
            fields = json.loads(request.body)
            name = fields["metadata"]["orchestrator_key"].replace(" ", "_")
            await connection.answer(json.dumps({"id": f"resp_{name}", "status": "queued"}).encode())
            continue
        [name] = re.findall(r"resp_(\w+)", request.target)
        await send(connection, name.rpartition("_")[0].replace("_", " "), f"resp_{name}")


@asynccontextmanager
async def rehearsing(folder: Path, rows: list[str], *, speed: float = 60, **config: Any) -> AsyncIterator[Rehearsal]:
    async with serve_raw() as server:
        server.script = provider
        sections = {"provider": {"base_url": server.url, **config}, "limits": LIMITS}
        job = write_job(folder, rows, {"retry": {"attempts": 2}})
        yield Rehearsal(
            folder=folder,
            base_url=server.url,
            clock=FastClock(speed),
            job=job,
            config=Config.model_validate(sections),
        )


async def ended(at: Rehearsal) -> dict[str, Any]:
    async with at.orchestrator() as orchestrator:
        run = await orchestrator.run(at.job, name=RUN)
        assert run.attempts == sum(run.requests.values())
        return {row.key: row async for row in orchestrator.results(RUN, states=tuple(State))}


@pytest.mark.parametrize("transport", ["asyncio", "httpx"])
@pytest.mark.parametrize("kind", ["too large", "bomb", "endless", "endless trailers"])
async def test_a_reply_beyond_the_cap_fails_its_row_and_names_the_setting(
    tmp_path: Path, kind: str, transport: str
) -> None:
    rows = ["small 1", f"{kind} 1", "small 2"]
    # httpx has a cap of its own for what follows a body: such a poll is repeated for an hour before its row fails.
    caps_itself = (kind, transport) == ("endless trailers", "httpx")
    async with rehearsing(tmp_path, rows, transport=transport, speed=2_000 if caps_itself else 60) as at:
        results = await ended(at)
    assert [results[key].state for key in ("small 1", "small 2")] == [State.SUCCEEDED] * 2
    failed = results[f"{kind} 1"]
    assert (failed.code, failed.cost_pusd) == ("unreadable_reply", None)
    if not caps_itself:
        assert "2097152 bytes; limits.reply_bytes" in (failed.message or "")


@pytest.mark.parametrize("transport", ["asyncio", "httpx"])
@pytest.mark.parametrize("kind", ["large", "expands"])
async def test_large_replies_wait_for_each_other_and_all_succeed(tmp_path: Path, kind: str, transport: str) -> None:
    """Each is nearly at the cap, and two have room at once."""
    rows = [f"{kind} {n}" for n in range(12)] + [f"small {n}" for n in range(4)]
    async with rehearsing(tmp_path, rows, transport=transport) as at:
        results = await ended(at)
    assert {row.state for row in results.values()} == {State.SUCCEEDED}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["huge", "nearly huge"])
async def test_the_memory_stays_bounded_with_the_default_limits(tmp_path: Path, kind: str) -> None:
    """64 replies of 60 MB, which are beyond the cap, or of 24 MB, in a process of its own."""
    rows = [f"{kind} {n}" for n in range(64)] + [f"small {n}" for n in range(8)]
    async with serve_raw() as server:
        server.script = provider
        write_job(tmp_path, rows, {})
        (tmp_path / "config.yaml").write_text(f"provider: {{base_url: {server.url}}}\n")
        command = ["run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--json", "--yes"]
        found = await anyio.run_process(
            [sys.executable, "-c", MEASURED, *command], cwd=tmp_path, stdout=subprocess.DEVNULL, check=False
        )
    assert found.returncode == (ExitCode.SOME_FAILED if kind == "huge" else ExitCode.OK)
    [peak_kb] = re.findall(rb"VmHWM:\s+(\d+) kB", found.stderr)
    assert int(peak_kb) < 400_000
