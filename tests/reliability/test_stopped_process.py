"""A process that is stopped for longer than its timeouts takes the replies that arrived meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.provider.raw_server import Connection, Request, serve_raw
from tests.reliability.rehearsal import write_job

pytestmark = pytest.mark.anyio


@dataclass
class HeldProvider:
    """Answers the first ``free`` creates and the first poll, and holds all further calls until it is released.

    Without an answer to a poll a run opens only a few responses.
    """

    free: int
    held: Counter[str] = field(default_factory=Counter)
    # How often each row was asked.
    asked: Counter[str] = field(default_factory=Counter)
    polls: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, connection: Connection) -> None:
        while True:
            request = await connection.request()
            body = self.answer(request)
            if self.polls > 1 if request.method == "GET" else sum(self.asked.values()) > self.free:
                self.held[request.method] += 1
                self.changed.set()
                await self.released.wait()
            await connection.answer(json.dumps(body).encode())

    def answer(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            self.polls += 1
            return ended(request.target.rpartition("/")[2])
        key = json.loads(request.body)["metadata"]["orchestrator_key"]
        self.asked[key] += 1
        return {"id": f"resp_{sum(self.asked.values())}", "object": "response", "status": "queued"}

    async def holds(self, **calls: int) -> None:
        while any(self.held[method] < number for method, number in calls.items()):
            self.changed.clear()
            await self.changed.wait()


def ended(response_id: str) -> dict[str, Any]:
    message = {"type": "message", "content": [{"type": "output_text", "text": "Well."}]}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
    return {"id": response_id, "status": "completed", "model": "gpt-5-mini", "output": [message], "usage": usage}


@asynccontextmanager
async def running(folder: Path, base_url: str, *, rows: int, read_s: float, **provider: Any) -> AsyncIterator[Any]:
    """A command that runs so many rows against that server."""
    write_job(folder, rows, {})
    config = {
        "provider": {"base_url": base_url, **provider},
        "limits": {"requests_per_minute": 60_000, "tokens_per_minute": 100_000_000, "polls_per_minute": 60_000},
        "timeouts": {"read": f"{read_s}s", "queued": f"{read_s / 1.5}s", "run": f"{read_s / 1.5}s"},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "run", "job.yaml", "--config", "config.yaml", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "OPENAI_API_KEY": "sk-stopped-0123456789"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stopped_and_continued(folder: Path, each: int, read_s: float, **settings: Any) -> dict[str, Any]:
    """Stop the command with so many creates and as many polls on the wire; returns its summary."""
    async with serve_raw() as server:
        provider = HeldProvider(free=each + 1)
        server.script = provider.serve
        async with running(folder, f"{server.url}/v1", rows=2 * each + 1, read_s=read_s, **settings) as process:
            await provider.holds(GET=each, POST=each)
            process.send_signal(signal.SIGSTOP)
            provider.released.set()
            # Longer than every timeout.
            await anyio.sleep(read_s + 1.2)
            process.send_signal(signal.SIGCONT)
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert set(provider.asked.values()) == {1}, "a create whose reply had arrived was sent again"
        summary: dict[str, Any] = json.loads(out)
        calls = f"{provider.held.total()} calls on the wire, {summary['attempts']} attempts\n"
        sys.stdout.write(calls)
        return summary


@pytest.mark.parametrize("transport", ["asyncio", pytest.param("httpx", marks=pytest.mark.long)])
async def test_no_create_is_sent_again_after_a_stop(tmp_path: Path, transport: str) -> None:
    summary = await stopped_and_continued(tmp_path, 8, 1.5, transport=transport)
    assert summary["requests"]["succeeded"] == summary["attempts"] == 17
    assert summary["possible_duplicates"] == 0


@pytest.mark.long
@pytest.mark.parametrize("transport", ["asyncio", "httpx"])
async def test_no_create_is_sent_again_with_many_on_the_wire(tmp_path: Path, transport: str) -> None:
    summary = await stopped_and_continued(tmp_path, 64, 8.0, transport=transport)
    assert summary["requests"]["succeeded"] == summary["attempts"] == 129
    assert summary["possible_duplicates"] == 0
