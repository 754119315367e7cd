"""Many short jobs at a time, without a new task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

__all__ = ["WorkerPool"]

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Does one kind of job; an idle worker takes the next one, and a new worker starts only if all are busy.

    Starting a task costs more than most of what is done in it. The caller bounds how many jobs run at a time; all
    workers end with the task group.
    """

    def __init__(self, tasks: TaskGroup, job: Callable[[T], Awaitable[None]]) -> None:
        self._tasks = tasks
        self._job = job
        self._idle: list[asyncio.Future[T]] = []

    def start(self, item: T) -> None:
        """Have a job done, from the event loop's next round on."""
        while self._idle:
            next_item = self._idle.pop()
            # An idle worker whose group was cancelled takes nothing more: to hand it a job would be an error.
            if not next_item.done():
                next_item.set_result(item)
                return
        self._tasks.start_soon(self._work, item)

    async def _work(self, item: T) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._job(item)
            next_item: asyncio.Future[T] = loop.create_future()
            self._idle.append(next_item)
            item = await next_item
