"""Many short jobs at a time, without a new task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

__all__ = ["WorkerPool"]

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Does one kind of job; whoever has finished one takes the next, and a new worker comes only if all are busy.

    A task with all that belongs to it costs more than most of what is done in it. How many may work at a time is the
    caller's to decide; all end with the task group.
    """

    def __init__(self, tasks: TaskGroup, job: Callable[[T], Awaitable[None]]) -> None:
        self._tasks = tasks
        self._job = job
        self._idle: list[asyncio.Future[T]] = []

    def start(self, item: T) -> None:
        """Have a job done, from the event loop's next round on."""
        if self._idle:
            self._idle.pop().set_result(item)
        else:
            self._tasks.start_soon(self._work, item)

    async def _work(self, item: T) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._job(item)
            turn: asyncio.Future[T] = loop.create_future()
            self._idle.append(turn)
            item = await turn
