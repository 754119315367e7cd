"""A new lane is one executor and one entry in the registry: nothing else knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator import Orchestrator
from orchestrator.config import Config
from orchestrator.core.model import Response, Seen, Usage
from orchestrator.core.problems import Problem
from orchestrator.executors import registry
from orchestrator.executors.base import Capabilities, ResponseStreams
from orchestrator.job.spec import Job

pytestmark = pytest.mark.anyio


class HeldOpen:
    """A lane whose create call returns the answer: nothing can be polled or cancelled."""

    capabilities = Capabilities(poll=False, cancel=False)
    streams: ResponseStreams | None = None

    def __init__(self) -> None:
        self.created: list[str] = []

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, stage: str, number: int) -> bytes:
        return orjson.dumps({**fields, "metadata": {"run": run_uid, "key": key, "stage": stage, "number": number}})

    async def submit(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem:  # noqa: ARG002
        asked = json.loads(body)
        self.created.append(asked["input"])
        response = {"id": f"resp_{idempotency_key}", "status": "completed"}
        return Seen(
            response=Response(
                id=response["id"],
                status="completed",
                ended=True,
                body=orjson.dumps(response),
                model=asked["model"],
                usage=Usage(input_tokens=10, output_tokens=5, total_tokens=15),
                no_tool_items=True,
                output_text=f"About {asked['input']}.",
            ),
            headers={},
        )

    async def poll(self, response_id: str) -> Seen | Problem:  # noqa: ARG002
        raise AssertionError("a lane that cannot poll was polled")

    async def cancel(self, response_id: str) -> Seen | Problem:  # noqa: ARG002
        raise AssertionError("a lane that cannot cancel was asked to")

    async def new_conversation(self, run_uid: str, chain: str) -> str | Problem:  # noqa: ARG002
        raise AssertionError("no row of this job has a conversation")


async def test_a_job_runs_on_a_lane_that_only_creates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = HeldOpen()
    monkeypatch.setattr(registry, "LANES", {registry.DEFAULT_LANE: lambda *_: lane})
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"id": "{n}", "text": "row {n}"}}\n' for n in range(20)))
    job = Job.model_validate(
        {
            "name": "speeches",
            "input": {"path": str(tmp_path / "rows.jsonl"), "key": "id"},
            "request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 50},
        }
    )
    config = Config.model_validate({"provider": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None}})
    async with Orchestrator(config, database=tmp_path / "runs.db") as orchestrator:
        run = await orchestrator.run(job)
        answers = {result.key: result.output_text async for result in orchestrator.results(run.name)}
    assert (run.requests.succeeded, run.polls, run.cost_unknown) == (20, 0, 0)
    assert answers == {str(n): f"About row {n}." for n in range(20)}
    assert sorted(lane.created) == sorted(f"row {n}" for n in range(20))
