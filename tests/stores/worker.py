"""A process that moves requests as fast as it can and says what it was told is done, to be killed at any moment.

Run as ``python -m tests.stores.worker DATABASE``; each line of its output is a move that was acknowledged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import anyio

from orchestrator.core.states import State
from orchestrator.stores.reads import PendingRequest
from orchestrator.stores.sqlite import SqliteReader, SqliteStore

from .builders import Desk, a_charge, mark, rows

BATCH = 20


async def carry_on(desk: Desk, request: PendingRequest, say: Callable[..., None]) -> None:
    attempt_id = await desk.claim(request)
    say("claimed", request.id, attempt_id)
    response_id = f"resp_{attempt_id}"
    await desk.accept(request, attempt_id, response_id=response_id)
    say("accepted", request.id, response_id)
    to = (State.SUCCEEDED, State.FAILED, State.PENDING)[attempt_id % 3]
    assert await desk.end(request, attempt_id, to, charge=a_charge(attempt_id % 1_000))
    say("ended", request.id, to.value, attempt_id % 1_000)


async def main(database: str) -> None:
    def say(*words: object) -> None:
        print(*words, flush=True)  # noqa: T201  # to the test that reads it

    async with SqliteStore.open(database) as store, SqliteReader.open(database) as reader:
        run = await reader.run("demo")
        assert run is not None
        desk = Desk(store, reader, run)
        position = run.plan.position
        after_id = 0
        while True:
            await store.add_rows(run.id, rows(BATCH, position), [], mark(position + BATCH))
            position += BATCH
            say("planned", position)
            fresh = await reader.fresh(run.id, after_id=after_id, limit=BATCH)
            after_id = fresh[-1].id
            async with anyio.create_task_group() as tasks:
                for request in fresh:
                    tasks.start_soon(carry_on, desk, request, say)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
