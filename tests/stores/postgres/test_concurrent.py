"""Several writers at the same time, each with a connection of its own: what one has done, no other does again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from orchestrator.core.states import State
from orchestrator.stores.postgres.postgres_backend import PostgresBackend
from orchestrator.stores.reads import OtherRequest, SharedCaps
from tests.stores.builders import NOW, Harness, a_charge, a_run, mark, rows

from .new_schema import migrated, new_schema

pytestmark = [pytest.mark.anyio, pytest.mark.services]

WRITERS = 8


@asynccontextmanager
async def writers(count: int, *, name: str = "run-{}") -> AsyncIterator[list[Harness]]:
    """Harnesses with connections of their own; each has a run, unless all are given the same name."""
    new_schema()
    backend = PostgresBackend(migrated())
    async with AsyncExitStack() as stack:
        found: list[Harness] = []
        for number in range(count):
            store = await stack.enter_async_context(backend.open_store())
            reader = await stack.enter_async_context(backend.open_reader())
            run = await reader.run(name.format(number)) or await store.create_run(a_run(name.format(number)))
            found.append(Harness(store, reader, run))
        yield found


async def test_a_request_is_claimed_by_one_writer() -> None:
    async with writers(WRITERS, name="demo") as harnesses:
        requests = await harnesses[0].add(50)
        won: list[int] = []

        async def claim_all(harness: Harness) -> None:
            for request in requests:
                claimed = await harness.try_claim(request)
                if isinstance(claimed, int):
                    won.append(claimed)

        async with anyio.create_task_group() as tasks:
            for harness in harnesses:
                tasks.start_soon(claim_all, harness)
        assert len(won) == len({*won}) == len(requests)
        assert (await harnesses[0].summary()).attempts == len(requests)


async def test_no_cap_is_exceeded_by_writers_at_the_same_time_and_most_of_it_is_used() -> None:
    """Rows that may cost 20 and cost 10: what is spent and set aside never exceeds the cap."""
    cap, worst, cost = 4_000, 20, 10
    async with writers(WRITERS) as harnesses:
        most: list[int] = []

        async def spend(harness: Harness) -> None:
            caps = SharedCaps(run_id=harness.run.id, simulated=False, day_pusd=cap, month_pusd=None)
            for request in await harness.add(60):
                claimed = await harness.try_claim(request, worst_case_pusd=worst, caps=caps)
                spent = await harness.reader.spending(caps, NOW)
                most.append(spent.day_pusd + spent.own_pusd + spent.elsewhere_pusd)
                if isinstance(claimed, int):
                    assert await harness.accept(request, claimed)
                    assert await harness.end(request, claimed, State.SUCCEEDED, at=NOW, charge=a_charge(cost))

        async with anyio.create_task_group() as tasks:
            for harness in harnesses:
                tasks.start_soon(spend, harness)
        caps = SharedCaps(run_id=harnesses[0].run.id, simulated=False, day_pusd=cap, month_pusd=None)
        spent = await harnesses[0].reader.spending(caps, NOW)
        assert max(most) <= cap
        assert 0.97 * cap <= spent.day_pusd <= cap
        assert (spent.own_pusd, spent.elsewhere_pusd) == (0, 0)


async def test_runs_that_ask_the_same_at_the_same_time_ask_it_once() -> None:
    async with writers(4) as harnesses:
        asked: list[int] = []
        found: list[OtherRequest] = []

        async def ask(harness: Harness) -> None:
            for number, request in enumerate(await harness.add(20)):
                claimed = await harness.try_claim(request, fingerprint=b"%032d" % number, others_since=0.0)
                if isinstance(claimed, int):
                    asked.append(claimed)
                elif isinstance(claimed, list):
                    found.extend(claimed)

        async with anyio.create_task_group() as tasks:
            for harness in harnesses:
                tasks.start_soon(ask, harness)
        assert len(asked) == 20
        assert len(found) == 3 * 20


async def test_planners_at_the_same_time_give_each_request_an_id_of_its_own() -> None:
    async with writers(WRITERS) as harnesses:

        async def plan(harness: Harness) -> None:
            for start in range(0, 300, 50):
                await harness.store.add_rows(harness.run.id, rows(50, start), [], mark(start + 50))

        async with anyio.create_task_group() as tasks:
            for harness in harnesses:
                tasks.start_soon(plan, harness)
        planned = [[request.key for request in await harness.fresh()] for harness in harnesses]
        assert planned == [[f"row-{position}" for position in range(300)]] * WRITERS
