"""The process of an embedded sandbox: reads its settings from standard input, and ends when that closes.

If other processes use it then, it ends with the last of them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import orjson

from orchestrator.core.errors import OrchestratorError

if TYPE_CHECKING:
    from orchestrator.sandbox.server.discovery import PublishedAddress

__all__ = ["main"]

_LOCK_WAIT_S = 0.2
_UNUSED_CHECK_S = 0.1


def main() -> int:
    """Serves until the parent process ends; the exit code is that of the error if it cannot start."""
    # As for the command line: the collector's default pace takes a tenth of the start-up, and its last run is waste.
    gc.set_threshold(50_000, 20, 20)
    from orchestrator.sandbox.server.serve import loop_options

    code = anyio.run(_run, backend_options=loop_options())
    gc.freeze()
    return code


async def _run() -> int:
    stdin = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    try:
        return await _serve(stdin)
    finally:
        pipe.close()
        # The loop closes the pipe in its next iteration, so there must be one.
        await anyio.lowlevel.checkpoint()


async def _serve(stdin: asyncio.StreamReader) -> int:
    from orchestrator.sandbox.sandbox_settings import SandboxSettings
    from orchestrator.sandbox.server.discovery import PublishedAddress, SandboxEndpoint
    from orchestrator.sandbox.server.serve import running_sandbox

    line = await stdin.readline()
    if not line:
        return 0
    order = orjson.loads(line)
    settings = SandboxSettings.model_validate(order["settings"])
    state_file = Path(order["state_file"]) if order["state_file"] else None
    try:
        # The process that started it waits for the file, and can say so.
        async with running_sandbox(settings, state_file=state_file, lock_wait_s=_LOCK_WAIT_S) as base_url:
            key = settings.api_key.get_secret_value() if settings.api_key else ""
            endpoint = SandboxEndpoint(base_url, key, order["digest"], os.getpid())
            published = PublishedAddress(endpoint, state_file) if state_file else None
            _report({"base_url": base_url})
            await stdin.read()
            if published:
                await _until_unused(published)
    except OrchestratorError as error:
        _report({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


async def _until_unused(published: PublishedAddress) -> None:
    if published.withdraw():
        return
    _report({"kept": True})
    _close_streams()
    while not published.withdraw():  # noqa: ASYNC110 – a lock of another process wakes no event
        await anyio.sleep(_UNUSED_CHECK_S)


def _close_streams() -> None:
    """Leave standard output and error: they may be a pipe whose reader waits for their end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _report(values: dict[str, Any]) -> None:
    # The parent may have been killed; then no process reads this.
    with suppress(BrokenPipeError):
        os.write(1, orjson.dumps(values) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
