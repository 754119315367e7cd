"""A process that moves requests as fast as it can and prints each acknowledged move, to be killed at any time.

Run as ``python -m tests.stores.sqlite.worker DATABASE``; each line of its output is one move.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import anyio

from orchestrator.core.states import State
from orchestrator.stores.reads import PendingRequest
from orchestrator.stores.sqlite import SqliteReader, SqliteStore
from tests.stores.builders import Harness, a_charge, mark, rows

BATCH = 20


async def work_on(harness: Harness, request: PendingRequest, report: Callable[..., None]) -> None:
    attempt_id = await harness.claim(request)
    report("claimed", request.id, attempt_id)
    response_id = f"resp_{attempt_id}"
    await harness.accept(request, attempt_id, response_id=response_id)
    report("accepted", request.id, response_id)
    to = (State.SUCCEEDED, State.FAILED, State.PENDING)[attempt_id % 3]
    assert await harness.end(request, attempt_id, to, charge=a_charge(attempt_id % 1_000))
    report("ended", request.id, to.value, attempt_id % 1_000)


async def main(database: str) -> None:
    def report(*words: object) -> None:
        print(*words, flush=True)  # noqa: T201  # to the test that reads it

    async with SqliteStore.open(database) as store, SqliteReader.open(database) as reader:
        run = await reader.run("demo")
        assert run is not None
        harness = Harness(store, reader, run)
        position = run.plan.position
        after_id = 0
        while True:
            await store.add_rows(run.id, rows(BATCH, position), [], mark(position + BATCH))
            position += BATCH
            report("planned", position)
            fresh = await reader.fresh(run.id, after_id=after_id, limit=BATCH)
            after_id = fresh[-1].id
            async with anyio.create_task_group() as tasks:
                for request in fresh:
                    tasks.start_soon(work_on, harness, request, report)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
