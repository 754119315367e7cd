"""Makes rehearsals: a job of a few rows, a database of its own, a sandbox on loopback, and time that hurries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Config
from orchestrator.sandbox.serve import running_sandbox
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.testing import FastClock

from .gateway import Script, running_gateway
from .rehearsal import AMPLE, Rehearsal, Rehearse, write_job

# By the hurried clock: tens of milliseconds by the one on the wall.
LATENCY = {"queue": 0.4, "run": {"from_s": 0.6, "to_s": 1.6}}
SPEED = 20.0


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-rehearsal-0123456789")


@pytest.fixture
async def rehearse(tmp_path: Path) -> AsyncIterator[Rehearse]:
    """Starts a sandbox with the faults and settings given, and makes everything ready for a run against it.

    ``script`` puts a gateway in front of it. ``config`` replaces whole sections of the config.
    """
    async with AsyncExitStack() as stack:

        async def rehearse(
            *,
            rows: int = 12,
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
            clock = FastClock(speed)
            wanted = {"seed": 1, "latency": LATENCY, "faults": faults or {}, **(sandbox or {})}
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
                folder=tmp_path,
                base_url=base_url,
                clock=clock,
                job=write_job(tmp_path, rows, dict(job or {})),
                config=Config.model_validate(sections),
                gateway=gateway,
            )

        yield rehearse
