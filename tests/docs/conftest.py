"""Where the documentation's code finds a provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from pydantic import SecretStr

from orchestrator.sandbox.sandbox_settings import Latency, SandboxSettings
from orchestrator.sandbox.server.process import embedded_sandbox
from tests.docs.workshop import KEY


@pytest.fixture(scope="session")
def provider_url() -> Iterator[str]:
    """A sandbox in the place of the real provider, for the pages that use a key."""
    settings = SandboxSettings(api_key=SecretStr(KEY), latency=Latency(queue=0.05, run=0.1))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded_sandbox(settings, None)) as endpoint,
    ):
        yield endpoint.base_url
