"""Runs the tools of responses that stopped for them, beside the sending and the polling."""

from __future__ import annotations

import anyio

from orchestrator.engine.items import AwaitingTools
from orchestrator.engine.route import Router
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.steps import RunTools

__all__ = ["ToolRunner"]


class ToolRunner:
    """A task for each response whose tools are running; ``FunctionTools`` bounds how many run at once."""

    def __init__(self, status: RunStatus, step: RunTools, router: Router) -> None:
        self._status = status
        self._step = step
        self._router = router

    async def run(self) -> None:
        """Run tools until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                tasks.start_soon(self._run_tools, await self._router.awaiting_tools.get())

    async def _run_tools(self, awaiting: AwaitingTools) -> None:
        try:
            after = await self._step.run_tools(awaiting)
        finally:
            self._status.running_tools -= 1
        self._router.route(after)
        self._status.send_signal.set()
        self._status.end_signal.set()
