"""A slow disk: the result of a query may be out of date when it arrives."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator import Config
from orchestrator.app.api import Orchestrator
from orchestrator.core.states import RunState, State
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.stores.reads import PendingRequest
from orchestrator.stores.sqlite import SqliteReader
from orchestrator.testing import FastClock
from tests.reliability.rehearsal import write_job

from .station import KEY

pytestmark = pytest.mark.anyio


async def test_requests_that_move_while_the_queue_is_read_are_neither_lost_nor_sent_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed = SqliteReader.delayed

    async def late(reader: SqliteReader, run_id: int, *, limit: int) -> list[PendingRequest]:
        found = await delayed(reader, run_id, limit=limit)
        await anyio.sleep(0.1)
        return found

    monkeypatch.setattr(SqliteReader, "delayed", late)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    clock = FastClock(20)
    faults = {"server_error": 0.4, "rate_limited": 0.1}
    settings = SandboxSettings.model_validate({"latency": {"queue": 0, "run": 1}, "faults": faults})
    job = write_job(tmp_path, 60, {"retry": {"attempts": 50}})
    async with running_sandbox(settings, clock=clock) as base_url:
        config = Config.model_validate(
            {
                "provider": {"base_url": base_url},
                "limits": {"requests_per_minute": 60_000, "polls_per_minute": 60_000},
            }
        )
        async with Orchestrator(config, database=tmp_path / "runs.db", clock=clock) as orchestrator:
            summary = await orchestrator.run(job)
    assert summary.run.state is RunState.FINISHED
    assert summary.requests[State.SUCCEEDED] == 60
