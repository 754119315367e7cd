"""The process of an embedded sandbox: its orders come by standard input, and it ends when that closes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import anyio.lowlevel
import orjson

from orchestrator.core.errors import OrchestratorError
from orchestrator.sandbox.server.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import loop_options, running_sandbox

__all__ = ["main"]


def main() -> int:
    """Serve until the parent is gone; the exit code is that of the error that kept it from starting."""
    return anyio.run(_run, backend_options=loop_options())


async def _run() -> int:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    try:
        return await _serve(orders)
    finally:
        pipe.close()
        # The loop closes the pipe in its next round, and there may be none.
        await anyio.lowlevel.checkpoint()


async def _serve(orders: asyncio.StreamReader) -> int:
    line = await orders.readline()
    if not line:
        return 0
    order = orjson.loads(line)
    settings = SandboxSettings.model_validate(order["settings"])
    state_file = Path(order["state_file"]) if order["state_file"] else None
    try:
        async with running_sandbox(settings, state_file=state_file) as base_url:
            _tell({"base_url": base_url})
            await orders.read()
    except OrchestratorError as error:
        _tell({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _tell(news: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(news).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
