"""The process of an embedded sandbox: reads its settings from standard input, and ends when that closes."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import anyio.lowlevel
import orjson

from orchestrator.core.errors import OrchestratorError

__all__ = ["main"]


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
    from orchestrator.sandbox.server.serve import running_sandbox

    line = await stdin.readline()
    if not line:
        return 0
    order = orjson.loads(line)
    settings = SandboxSettings.model_validate(order["settings"])
    state_file = Path(order["state_file"]) if order["state_file"] else None
    try:
        async with running_sandbox(settings, state_file=state_file) as base_url:
            _report({"base_url": base_url})
            await stdin.read()
    except OrchestratorError as error:
        _report({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _report(values: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(values).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
