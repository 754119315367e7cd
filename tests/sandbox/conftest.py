"""A sandbox on a real socket, on a clock that moves only when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.testing import FakeClock

from .callers import LATENCY, Caller, Start


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def start(clock: FakeClock) -> AsyncIterator[Start]:
    """Starts a sandbox with the given settings, and a client for it."""
    async with AsyncExitStack() as stack:

        async def start(state_file: Path | None = None, **settings: Any) -> Caller:
            wanted = SandboxSettings.model_validate({"latency": LATENCY} | settings)
            sandbox = running_sandbox(wanted, state_file=state_file, clock=clock)
            base_url = await stack.enter_async_context(sandbox)
            headers = {"authorization": "Bearer sk-test"}
            # There is no TLS here, and loading certificates for each test takes longer than most tests.
            http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=600, verify=False)  # noqa: S501
            return Caller(await stack.enter_async_context(http))

        yield start
