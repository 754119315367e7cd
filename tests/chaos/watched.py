"""The command line, measured: ``python -m tests.chaos.watched FILE run …``.

Each second it adds a line to the file: the age of the process, its memory, and its open files, threads and tasks.
Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

__all__ = ["EVERY_S"]

EVERY_S = 1.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class Gauge(threading.Thread):
    """Measures the process from a thread of its own; ``loop`` is the event loop, None before it exists."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True, name="gauge")
        self.loop: asyncio.AbstractEventLoop | None = None
        self._file = file
        self._started = time.monotonic()

    def run(self) -> None:
        with self._file.open("w", buffering=1) as file:
            while True:
                time.sleep(EVERY_S)
                if self.loop is not None:
                    file.write(json.dumps(self._read(self.loop)) + "\n")

    def _read(self, loop: asyncio.AbstractEventLoop) -> dict[str, float]:
        return {
            "at_s": time.monotonic() - self._started,
            "memory_mb": int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB,
            "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks(loop)),
        }


def main(file: Path, arguments: list[str]) -> None:
    """Runs the command line while the gauge measures."""
    gauge, run = Gauge(file), anyio.run

    def watched(work: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        async def noted() -> Any:
            gauge.loop = asyncio.get_running_loop()
            return await work(*args)

        return run(noted, **options)

    vars(anyio)["run"] = watched
    gauge.start()
    from orchestrator.__main__ import main as command

    sys.argv[1:] = arguments
    command()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
