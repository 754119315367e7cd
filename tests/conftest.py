"""What every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long one example takes says how busy the machine is, and nothing about the code.
settings.register_profile("orchestrator", deadline=None)
settings.load_profile("orchestrator")


@pytest.fixture
def anyio_backend() -> str:
    """aiosqlite and the default transport need asyncio, so that is what we run on."""
    return "asyncio"
