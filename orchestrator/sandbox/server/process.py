"""The embedded sandbox: a process of its own that ends with the run that started it."""

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
from orchestrator.sandbox.sandbox_settings import SandboxSettings

__all__ = ["SandboxEndpoint", "embedded_sandbox"]

_MAX_LINE_BYTES = 65_536
_EXIT_WAIT_S = 5


@dataclass(frozen=True, slots=True)
class SandboxEndpoint:
    """The address of an embedded sandbox, and the key that it accepts."""

    base_url: str
    api_key: str = field(repr=False)
    pid: int


@asynccontextmanager
async def embedded_sandbox(settings: SandboxSettings, state_file: Path | None) -> AsyncIterator[SandboxEndpoint]:
    """Starts a sandbox on a free port of 127.0.0.1, and ends it with the block.

    It also ends when this process dies for any reason, because its standard input then closes. The next sandbox on
    the same state file waits for it. Its key is random unless the settings have one. Raises ``StoreError`` or
    ``ConfigError`` if it cannot start.
    """
    key = settings.api_key.get_secret_value() if settings.api_key else f"sk-sandbox-{secrets.token_hex(16)}"
    # A session of its own: Ctrl-C reaches only the parent, which still needs the sandbox in order to end cleanly.
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
    """Sends its settings by standard input, which other users cannot read, and waits for its URL."""
    # Both are pipes, as requested from ``open_process``.
    stdin, stdout = cast(ByteSendStream, process.stdin), cast(ByteReceiveStream, process.stdout)
    order = {
        "settings": settings.model_dump(mode="json", exclude={"api_key"}) | {"api_key": key},
        "state_file": str(state_file) if state_file else None,
    }
    try:
        await stdin.send(orjson.dumps(order) + b"\n")
        line = await BufferedByteReceiveStream(stdout).receive_until(b"\n", _MAX_LINE_BYTES)
    except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
        raise ConfigError("the embedded sandbox ended before it could start") from None
    report = orjson.loads(line)
    if "error" in report:
        raise _ERRORS.get(report["error"], OrchestratorError)(report["message"], hint=report["hint"])
    base_url: str = report["base_url"]
    return base_url


async def _end(process: Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(_EXIT_WAIT_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    # The event loop closes a pipe that is read to its end; Python warns about one that is left open.
    if process.stdout is not None:
        async for _ in process.stdout:
            pass
    await process.aclose()


_ERRORS: dict[str, type[OrchestratorError]] = {error.__name__: error for error in (ConfigError, StoreError)}
