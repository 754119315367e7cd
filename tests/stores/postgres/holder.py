"""A process that holds a run: ``holder.py URL RUN_ID [busy]`` prints ``held``; a busy one is in a long statement."""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread

from orchestrator.stores.postgres.postgres_backend import PostgresBackend
from orchestrator.stores.postgres.writing_session import Session as WritingSession


def sleep(session: WritingSession) -> None:
    session.ask("SELECT pg_sleep(20)", [])


async def main(url: str, run_id: int, busy: bool) -> None:
    backend = PostgresBackend(url)
    async with backend.open_store() as store:
        with backend.lock(run_id, "demo"):
            print("held", flush=True)  # noqa: T201
            if busy:
                await anyio.to_thread.run_sync(lambda: store.writer.now(sleep))
            await anyio.sleep_forever()


anyio.run(main, sys.argv[1], int(sys.argv[2]), "busy" in sys.argv)
