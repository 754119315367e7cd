"""What every test shares."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """aiosqlite and the default transport need asyncio, so that is what we run on."""
    return "asyncio"
