"""What every test shares: nothing that the caller's shell or the machine's load decides."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import settings

# How long one example takes says how busy the machine is, and nothing about the code. The quick profile tries the
# same few examples each time; `make test-all` looks for new ones.
settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("quick")

# Variables that the product or a library reads.
_PREFIXES = ("OPENAI_", "ORCHESTRATOR_", "SSL_CERT_")
_NAMES = {
    "ALL_PROXY", "COLUMNS", "FORCE_COLOR", "HTTPS_PROXY", "HTTP_PROXY", "LINES", "NO_COLOR", "NO_PROXY",
    "PYTHONOPTIMIZE", "PYTHONWARNINGS", "TZ",
}  # fmt: skip

for _name in list(os.environ):
    if _name.startswith(_PREFIXES) or _name.upper() in _NAMES:
        del os.environ[_name]
os.environ |= {"TERM": "xterm", "LC_ALL": "C.UTF-8"}
time.tzset()
os.umask(0o022)


@pytest.fixture
def anyio_backend() -> str:
    """aiosqlite and the default transport need asyncio, so that is what we run on."""
    return "asyncio"
