"""A sandbox in a process of its own, for one run: it is there when the block begins and gone when its parent is."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import orjson
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.core.errors import ConfigError, OrchestratorError, StoreError
from orchestrator.sandbox.server.sandbox_settings import SandboxSettings

__all__ = ["SandboxEndpoint", "embedded_sandbox"]

_LONGEST_LINE = 65_536
_GOODBYE_S = 5


@dataclass(frozen=True, slots=True)
class SandboxEndpoint:
    """Where an embedded sandbox is found, and the key it takes."""

    base_url: str
    api_key: str = field(repr=False)
    pid: int


@asynccontextmanager
async def embedded_sandbox(settings: SandboxSettings, state_file: Path | None) -> AsyncIterator[SandboxEndpoint]:
    """Start a sandbox on a free port of 127.0.0.1, and end it with the block.

    It ends by itself when this process dies, however it dies, because its standard input then closes. The next one
    on the same state file waits for it. Its key is a random one unless the settings name one. Raises ``StoreError``
    or ``ConfigError`` where it cannot start.
    """
    key = settings.api_key.get_secret_value() if settings.api_key else f"sk-sandbox-{secrets.token_hex(16)}"
    # A session of its own: Ctrl-C reaches the parent only, which still needs the sandbox to end well.
    process = await anyio.open_process(
        [sys.executable, "-P", "-m", "orchestrator.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        start_new_session=True,
    )
    try:
        yield SandboxEndpoint(await _start(process, settings, key, state_file), key, process.pid)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _start(process: Process, settings: SandboxSettings, key: str, state_file: Path | None) -> str:
    """Hand over what it shall do (by its standard input, which other users cannot read) and wait for its URL."""
    # Both are pipes, because they were asked for.
    orders, told = cast(ByteSendStream, process.stdin), cast(ByteReceiveStream, process.stdout)
    order = {
        "settings": settings.model_dump(mode="json", exclude={"api_key"}) | {"api_key": key},
        "state_file": str(state_file) if state_file else None,
    }
    try:
        await orders.send(orjson.dumps(order) + b"\n")
        line = await BufferedByteReceiveStream(told).receive_until(b"\n", _LONGEST_LINE)
    except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
        raise ConfigError("the embedded sandbox ended before it could start") from None
    news = orjson.loads(line)
    if "error" in news:
        raise _ERRORS.get(news["error"], OrchestratorError)(news["message"], hint=news["hint"])
    base_url: str = news["base_url"]
    return base_url


async def _end(process: Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(_GOODBYE_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    # Read to its end, the pipe is closed by the event loop; else it is left open, and Python warns of it.
    if process.stdout is not None:
        async for _ in process.stdout:
            pass
    await process.aclose()


_ERRORS: dict[str, type[OrchestratorError]] = {error.__name__: error for error in (ConfigError, StoreError)}
