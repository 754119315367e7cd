"""Starts the worker processes of a run, watches them, and starts those that die once more."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import Process

from orchestrator.core.errors import ExitCode
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.shards import SHARD_ROWS

__all__ = ["Supervisor", "WorkerCommand"]

# A worker that dies so soon, so often in a row, is not started again; the others and the last pass do its work.
_SOON_S = 1.0
_MOST_FAST_DEATHS = 5
_WATCH_EVERY_S = 0.5


@fast_dataclass(kw_only=False)
class WorkerCommand:
    """How many workers are wanted, and the command that starts one; the run's name follows it.

    ``rows`` is the size of a shard.
    """

    count: int
    command: Sequence[str]
    rows: int = SHARD_ROWS


class Supervisor:
    """The workers of one run; ``watch`` is awaited twice a second while any is alive.

    A worker that was killed is started again at once. One that ends with an error stops all: what it met is met, and
    reported, by the process that ends the run.
    """

    def __init__(self, workers: WorkerCommand, *, run: str, watch: Callable[[], Awaitable[None]]) -> None:
        self._command = [*workers.command, "--run", run]
        self._count = workers.count
        self._watch = watch
        self._processes: set[Process] = set()
        self._stopping = False
        self.restarts = 0

    async def run(self) -> None:
        """Return when every worker has ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_watching)
            async with anyio.create_task_group() as workers:
                for _ in range(self._count):
                    workers.start_soon(self._keep)
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Ask every worker to stop; what it has open is left to the next process."""
        self._stopping = True
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def _keep(self) -> None:
        fast_deaths = 0
        while not self._stopping and fast_deaths < _MOST_FAST_DEATHS:
            began = time.monotonic()
            code = await self._run_worker()
            if code >= 0:
                if code not in (ExitCode.OK, ExitCode.BUSY):
                    self.stop()
                return
            fast_deaths = fast_deaths + 1 if time.monotonic() - began < _SOON_S else 0
            self.restarts += 1

    async def _run_worker(self) -> int:
        # In a session of its own: Ctrl-C reaches it through this process only. It ends when its input is closed.
        process = await anyio.open_process(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=None, start_new_session=True
        )
        self._processes.add(process)
        try:
            return await process.wait()
        finally:
            self._processes.discard(process)
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                await process.aclose()

    async def _keep_watching(self) -> None:
        while True:
            await self._watch()
            await anyio.sleep(_WATCH_EVERY_S)
