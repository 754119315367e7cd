"""A worker pool does every job, with no more workers than there are jobs at a time."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from orchestrator.engine.tasks.worker_pool import WorkerPool

pytestmark = pytest.mark.anyio


async def test_workers_take_the_next_job() -> None:
    workers: set[asyncio.Task[None] | None] = set()
    done: list[int] = []
    three_more = asyncio.Semaphore(0)

    async def job(number: int) -> None:
        workers.add(asyncio.current_task())
        await asyncio.sleep(0)
        done.append(number)
        # After the worker is idle again.
        asyncio.get_running_loop().call_soon(three_more.release)

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, job)
        for first in range(0, 12, 3):
            for number in range(first, first + 3):
                pool.start(number)
            for _ in range(3):
                await three_more.acquire()
        tasks.cancel_scope.cancel()
    assert sorted(done) == list(range(12))
    assert len(workers) == 3


async def test_a_job_that_fails_ends_the_group() -> None:
    async def job(number: int) -> None:
        raise ValueError(number)

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            WorkerPool(tasks, job).start(1)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await work()
    assert isinstance(caught.value.exceptions[0], ValueError)


async def test_a_job_for_a_pool_that_was_cancelled_is_no_error() -> None:
    idle = anyio.Event()

    async def job(number: int) -> None:
        asyncio.get_running_loop().call_soon(idle.set)

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, job)
        pool.start(1)
        await idle.wait()
        tasks.cancel_scope.cancel()
        # The idle worker is cancelled, and has had no chance to end.
        await anyio.lowlevel.cancel_shielded_checkpoint()
        pool.start(2)
