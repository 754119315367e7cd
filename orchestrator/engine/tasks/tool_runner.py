"""Runs the tools of responses that stopped for them, beside the sending and the polling."""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from orchestrator.engine import steps
from orchestrator.engine.items import AwaitingTools, Finished, Queued
from orchestrator.engine.steps import Context

__all__ = ["ToolRunner"]


class ToolRunner:
    """A task for each response whose tools are being run; how many run at once is the toolbox's to say."""

    def __init__(self, context: Context, *, requeued: Callable[[float], None]) -> None:
        self._context = context
        self._run_status = context.flow
        self._requeued = requeued
        self._tasks: TaskGroup

    def start_in(self, tasks: TaskGroup) -> None:
        """Do all that is added in these tasks; before anything is."""
        self._tasks = tasks

    def add(self, acting: AwaitingTools) -> None:
        """Have the tools of a response run."""
        self._run_status.acting += 1
        self._tasks.start_soon(self._act, acting)

    async def _act(self, acting: AwaitingTools) -> None:
        after = await steps.run_tools(self._context, acting)
        self._run_status.acting -= 1
        match after:
            case Queued(not_before):
                self._requeued(not_before)
            case Finished(unblocked=True):
                self._requeued(self._context.clock.now())
        self._run_status.sender.set()
        self._run_status.changed.set()
