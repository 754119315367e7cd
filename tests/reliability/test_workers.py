"""Several processes share a run: every row is asked once, whatever dies, and no cap is exceeded."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from orchestrator import Orchestrator
from orchestrator.app.supervisor import WorkerCommand
from orchestrator.config import load_config
from orchestrator.core.model import Usage
from orchestrator.core.states import RunState, State
from orchestrator.job.spec import load_job
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.stores.reads import Summary
from orchestrator.stores.sqlite.run_lock import RunLock
from tests.stores.sqlite.audit import audit
from tests.warm import warm_python

pytestmark = pytest.mark.anyio

RESEND = {"resend_below_usd": "1"}
LIMITS = {"requests_per_minute": 60_000, "polls_per_minute": 60_000}


@dataclass
class Site:
    """A job, a config and a database in a folder, with a sandbox that serves all processes."""

    folder: Path
    base_url: str
    config: dict[str, Any] = field(default_factory=dict)
    # A launcher that is killed outlives its process by a moment; where workers are killed, it is the real one.
    python: str = field(default_factory=warm_python)
    running: Orchestrator | None = None

    def write(self, rows: list[dict[str, Any]], **job: Any) -> None:
        (self.folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        request = {"model": "gpt-5-mini", "input": "Sum up: {{ text }}", "max_output_tokens": 400}
        whole = {"name": "shared", "input": {"path": "rows.jsonl", "key": "id"}, "request": request, **job}
        (self.folder / "job.yaml").write_text(json.dumps(whole))
        config = {"provider": {"base_url": self.base_url}, "limits": LIMITS, **self.config}
        (self.folder / "config.yaml").write_text(json.dumps(config))

    async def run(self, workers: int, *, shard: int = 40, stop_after: int | None = None) -> Summary:
        """Run the job with so many workers; with ``stop_after`` it is stopped when so many rows are settled."""
        command = WorkerCommand(workers, self.worker(), rows=shard)
        async with self.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
            self.running = orchestrator

            async def stop() -> None:
                # The counts are what a display reads; nothing signals them.
                while orchestrator.progress.requests[State.SUCCEEDED] < (stop_after or 0):  # noqa: ASYNC110
                    await anyio.sleep(0.02)
                orchestrator.stop()

            if stop_after is not None:
                tasks.start_soon(stop)
            summary = await orchestrator.run(load_job(self.folder / "job.yaml"), name="r", workers=command)
            tasks.cancel_scope.cancel()
        return summary

    @property
    def settled(self) -> int:
        """How many rows the run's display shows as settled."""
        return 0 if self.running is None else self.running.progress.requests[State.SUCCEEDED]

    def worker(self) -> list[str]:
        places = ["--db", str(self.folder / "runs.db"), "--config", str(self.folder / "config.yaml")]
        return [self.python, "-m", "orchestrator", "worker", "--supervised", *places]

    def orchestrator(self) -> Orchestrator:
        return Orchestrator(load_config(self.folder / "config.yaml"), database=self.folder / "runs.db")

    async def ledger(self) -> dict[str, Any]:
        async with httpx.AsyncClient(verify=False, timeout=600) as http:  # noqa: S501
            loaded: dict[str, Any] = (await http.get(self.base_url.removesuffix("/v1") + "/_ledger")).json()
        return loaded

    async def check(self, summary: Summary) -> dict[str, Any]:
        """Both sides have the same bill, and the database is consistent."""
        audit(self.folder / "runs.db")
        ledger = await self.ledger()
        seen = ledger["seen_by_client"]
        assert (summary.cost_pusd, summary.usage) == (seen["cost_pusd"], Usage(**seen["usage"]))
        assert summary.reserved_pusd == 0
        return ledger


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def start(*, config: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Site]:
        sandbox = {"latency": {"queue": 0, "run": {"from_s": 0.02, "to_s": 0.2}}, **settings}
        async with running_sandbox(SandboxSettings.model_validate(sandbox)) as base_url:
            yield Site(tmp_path, base_url, config or {})

    return start


def _rows(count: int, texts: int | None = None) -> list[dict[str, Any]]:
    return [{"id": f"row-{n}", "text": f"Report {n % (texts or count)} was read."} for n in range(count)]


async def test_workers_ask_every_row_once_and_duplicates_once(site: Callable[..., Any]) -> None:
    async with site() as at:
        # Duplicates are two shards apart.
        at.write(_rows(180, texts=120))
        summary = await at.run(3)
        ledger = await at.check(summary)
    assert (summary.run.state, summary.requests[State.SUCCEEDED]) == (RunState.FINISHED, 180)
    assert (summary.attempts, ledger["creates"]["accepted"]) == (120, 120)
    assert summary.reused == 60
    with RunLock(at.folder / "runs.db", summary.run.id, "r"):
        pass


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.long)])
async def test_a_killed_worker_is_replaced_and_nothing_known_is_asked_twice(
    site: Callable[..., Any], kills: int
) -> None:
    async with site(latency={"queue": 0, "run": {"from_s": 0.3, "to_s": 0.8}}, config={"in_doubt": RESEND}) as at:
        at.python = sys.executable
        at.write(_rows(100 * kills))
        killed = 0

        async def kill() -> None:
            nonlocal killed
            while killed < kills:
                await anyio.sleep(0.05)
                # Only workers that have worked since the last kill.
                if at.settled > 30 * killed + 10 and (found := _children()):
                    os.kill(found[killed % len(found)], signal.SIGKILL)
                    killed += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            summary = await at.run(2, shard=50)
            tasks.cancel_scope.cancel()
        ledger = await at.check(summary)
    assert killed == kills
    assert (summary.run.state, summary.requests[State.SUCCEEDED]) == (RunState.FINISHED, 100 * kills)
    assert ledger["duplicates"]["usable"] <= summary.possible_duplicates
    print(f"{killed} kills, {summary.possible_duplicates} possible duplicates of {100 * kills} rows")  # noqa: T201


@pytest.mark.long
async def test_workers_never_exceed_the_cap_of_the_run_and_use_most_of_it(site: Callable[..., Any]) -> None:
    async with site() as at:
        at.write(_rows(500), budget={"usd": "0.06"})
        summary = await at.run(3)
        ledger = await at.check(summary)
    cap = 60_000_000_000
    assert (summary.run.state, summary.run.reason) == (RunState.HALTED, "budget")
    assert 0.97 * cap <= ledger["seen_by_client"]["cost_pusd"] <= cap
    assert summary.requests[State.PENDING]


@pytest.mark.long
async def test_a_run_that_is_stopped_can_be_finished_by_one_process(site: Callable[..., Any]) -> None:
    async with site(latency={"queue": 0, "run": {"from_s": 0.3, "to_s": 0.8}}) as at:
        at.write(_rows(250))
        stopped = await at.run(2, stop_after=20)
        assert stopped.run.state is RunState.PAUSED
        async with at.orchestrator() as orchestrator:
            summary = await orchestrator.resume("r")
        await at.check(summary)
    assert (summary.run.state, summary.requests[State.SUCCEEDED]) == (RunState.FINISHED, 250)
    assert not summary.possible_duplicates


async def test_a_worker_that_finds_no_shard_ends(site: Callable[..., Any]) -> None:
    async with site() as at:
        at.write(_rows(5))
        async with at.orchestrator() as orchestrator:
            await orchestrator.run(load_job(at.folder / "job.yaml"), name="r")
            assert await orchestrator.work("r") is None
            assert await orchestrator.work() is None


def _children() -> list[int]:
    """The processes that this one has started and that run a worker."""
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in mine if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
