"""Fixtures for runs: a job of a few rows, its own database, a sandbox on loopback, and a fast clock."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import Config
from orchestrator.sandbox.sandbox_settings import Latency, SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.testing import FastClock

from .gateway import Script, running_gateway
from .rehearsal import AMPLE, Rehearsal, Rehearse, write_job

KEY = "sk-rehearsal-0123456789"
# A minute per second.
SPEED = 60.0


def latency(speed: float) -> dict[str, Any]:
    """Tens of milliseconds of real time, so that no response ends before its create is answered."""
    return {"queue": 0.02 * speed, "run": {"from_s": 0.03 * speed, "to_s": 0.08 * speed}}


@pytest.fixture(scope="session", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run one row before any timing: the first run of a process takes a second, which is a minute of a fast clock."""

    async def run() -> None:
        clock, folder = FastClock(1), tmp_path_factory.mktemp("warm")
        async with running_sandbox(SandboxSettings(latency=Latency(queue=0, run=0)), clock=clock) as base_url:
            config = Config.model_validate({"provider": {"base_url": base_url}})
            job = write_job(folder, 1, {})
            await Rehearsal(folder=folder, base_url=base_url, clock=clock, job=job, config=config).run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        anyio.run(run)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # No test uses TLS, and loading the system's certificates takes as long as a run.
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture
async def rehearse(tmp_path: Path) -> AsyncIterator[Rehearse]:
    """Start a sandbox with the given faults and settings, and prepare a run against it.

    ``script`` puts a gateway in front of it. ``config`` replaces whole sections of the config. Each rehearsal has a
    folder of its own.
    """
    numbers = count()
    async with AsyncExitStack() as stack:

        async def rehearse(
            *,
            rows: int | Sequence[str] = 12,
            faults: dict[str, Any] | None = None,
            sandbox: dict[str, Any] | None = None,
            job: dict[str, Any] | None = None,
            config: dict[str, Any] | None = None,
            limits: dict[str, Any] | None = None,
            provider: dict[str, Any] | None = None,
            timeouts: dict[str, Any] | None = None,
            speed: float = SPEED,
            script: Script | None = None,
        ) -> Rehearsal:
            clock, folder = FastClock(speed), tmp_path / str(next(numbers))
            folder.mkdir()
            wanted = {"seed": 1, "latency": latency(speed), "faults": faults or {}, **(sandbox or {})}
            settings = SandboxSettings.model_validate(wanted)
            gateway = None
            if script is None:
                base_url = await stack.enter_async_context(running_sandbox(settings, clock=clock))
            else:
                base_url, gateway = await stack.enter_async_context(running_gateway(settings, clock, script))
            sections = {
                "provider": {"base_url": base_url, **(provider or {})},
                "limits": {**AMPLE, **(limits or {})},
                "timeouts": timeouts or {},
                **(config or {}),
            }
            return Rehearsal(
                folder=folder,
                base_url=base_url,
                clock=clock,
                job=write_job(folder, rows, dict(job or {})),
                config=Config.model_validate(sections),
                gateway=gateway,
            )

        yield rehearse
