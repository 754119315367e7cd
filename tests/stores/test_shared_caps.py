"""Caps over all runs of a database hold for sure, however many processes spend under them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.core.model import Charge
from orchestrator.core.states import State
from orchestrator.stores.base import Reader
from orchestrator.stores.reads import Run, SharedCaps, Spending
from orchestrator.stores.sqlite import SqliteReader, SqliteStore
from orchestrator.stores.writes import Acceptance, Ending, Release

from .audit import audit
from .builders import NOW, a_charge, a_claim, a_run, an_unknown_charge, mark, rows

pytestmark = pytest.mark.anyio

DAY = 86_400
ROWS = 40


@dataclass
class Process:
    """One process with a run of its own; several of them share a file."""

    store: SqliteStore
    reader: Reader
    run: Run
    caps: SharedCaps
    # Requests that nobody has claimed, and open attempts with the worst case of each.
    pending: list[int] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)

    async def claim(self, worst_case: int, at: float = NOW) -> Spending | int:
        """Claim a request; what is spent, where there is no room."""
        request = self.pending[0]
        number = self.number.get(request, 0) + 1
        claimed = await self.store.claim(
            a_claim(request, run_id=self.run.id, number=number, at=at, worst_case_pusd=worst_case, caps=self.caps)
        )
        assert claimed is not None
        if isinstance(claimed, int):
            self.pending.pop(0)
            self.number[request] = number
            self.open[claimed] = worst_case
        return claimed

    async def end(self, attempt: int, charge: Charge | None, *, at: float = NOW) -> None:
        """The attempt ends: charged, or never created."""
        request = attempt // 1_000_000
        del self.open[attempt]
        if charge is None:
            assert await self.store.release(Release(request_id=request, attempt_id=attempt, not_before=0.0))
            self.number[request] -= 1
            self.pending.append(request)
            return
        assert await self.store.accept(
            Acceptance(request_id=request, attempt_id=attempt, response_id=f"resp_{attempt}", status="queued", at=at)
        )
        ending = Ending(
            request_id=request,
            attempt_id=attempt,
            from_state=State.SUBMITTED,
            to=State.FAILED,
            at=at,
            code="x",
            charge=charge,
        )
        assert await self.store.end(ending) is not None


async def begin(
    stack: AsyncExitStack, database: Path, name: str, day: int | None, month: int | None = None, **changes: bool
) -> Process:
    store = await stack.enter_async_context(SqliteStore.open(database))
    run = await store.create_run(a_run(name, **changes))
    await store.add_rows(run.id, rows(ROWS), [], mark(ROWS))
    reader = await stack.enter_async_context(SqliteReader.open(database))
    pending = [request.id for request in await reader.fresh(run.id, after_id=0, limit=ROWS)]
    caps = SharedCaps(run_id=run.id, simulated=run.simulated, day_pusd=day, month_pusd=month)
    return Process(store, reader, run, caps, pending)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_what_one_run_sets_aside_another_cannot(stack: AsyncExitStack, database: Path) -> None:
    one, other = [await begin(stack, database, name, day=100) for name in ("one", "other")]
    attempt = await one.claim(60)
    assert isinstance(attempt, int)
    assert await other.claim(41) == Spending(
        day_pusd=0, month_pusd=0, own_pusd=0, elsewhere_pusd=60, holders=(one.run.id,)
    )
    assert isinstance(await other.claim(40), int)
    await one.end(attempt, a_charge(25))
    assert await one.reader.spending(one.caps, NOW) == Spending(
        day_pusd=25, month_pusd=25, own_pusd=0, elsewhere_pusd=40, holders=(other.run.id,)
    )
    assert isinstance(await one.claim(36), Spending)
    assert isinstance(await one.claim(35), int)


async def test_what_was_never_sent_is_given_back(stack: AsyncExitStack, database: Path) -> None:
    one = await begin(stack, database, "one", day=100)
    attempt = await one.claim(100)
    assert isinstance(attempt, int)
    assert isinstance(await one.claim(1), Spending)
    await one.end(attempt, None)
    assert isinstance(await one.claim(100), int)


async def test_a_refused_claim_leaves_no_trace(stack: AsyncExitStack, database: Path) -> None:
    one = await begin(stack, database, "one", day=100)
    assert isinstance(await one.claim(101), Spending)
    summary = await one.reader.summary(one.run.id)
    assert (summary.attempts, summary.requests[State.PENDING], summary.reserved_pusd) == (0, ROWS, 0)
    audit(database)


async def test_a_new_day_has_its_own_money_and_a_month_goes_on(stack: AsyncExitStack, database: Path) -> None:
    one = await begin(stack, database, "one", day=100, month=150)
    first = await one.claim(100)
    assert isinstance(first, int)
    await one.end(first, a_charge(90))
    assert isinstance(await one.claim(60, at=NOW + DAY), int), "60 of today, 150 of the month"
    assert isinstance(await one.claim(1, at=NOW + DAY), Spending)
    assert isinstance(await one.claim(40, at=NOW + 10 * DAY), int), "October; what is open counts there, too"
    assert isinstance(await one.claim(1, at=NOW + 10 * DAY), Spending)


async def test_unknown_costs_count_with_the_most_they_can_be(stack: AsyncExitStack, database: Path) -> None:
    one = await begin(stack, database, "one", day=100)
    attempt = await one.claim(80)
    assert isinstance(attempt, int)
    await one.end(attempt, an_unknown_charge(80))
    assert isinstance(await one.claim(21), Spending)
    assert await one.store.late_charge(attempt, a_charge(5), "completed", None)
    assert isinstance(await one.claim(95), int)
    audit(database)


async def test_play_money_is_counted_apart(stack: AsyncExitStack, database: Path) -> None:
    real = await begin(stack, database, "real", day=100)
    rehearsal = await begin(stack, database, "rehearsal", day=100, simulated=True)
    assert isinstance(await real.claim(100), int)
    assert isinstance(await rehearsal.claim(100), int)
    assert isinstance(await rehearsal.claim(1), Spending)


async def test_a_group_of_claims_cannot_pass_a_cap_together(stack: AsyncExitStack, database: Path) -> None:
    """Claims that are committed in one transaction see each other."""
    one = await begin(stack, database, "one", day=100)
    claims = [a_claim(request, worst_case_pusd=30, caps=one.caps) for request in one.pending[:10]]
    import anyio

    found: list[int | Spending | None] = []

    async def claim(index: int) -> None:
        found.append(await one.store.claim(claims[index]))

    async with anyio.create_task_group() as tasks:
        for index in range(10):
            tasks.start_soon(claim, index)
    assert sum(isinstance(each, int) for each in found) == 3


@pytest.mark.parametrize("seed", range(6))
async def test_no_cap_is_passed_whatever_happens(database: Path, seed: int) -> None:
    """Three runs, random costs and endings, processes that die and come back, midnights; the true cost is checked."""
    rng = random.Random(seed)
    day_cap, month_cap = rng.randint(100, 3_000), rng.randint(300, 6_000)
    taken: dict[int, int] = {}
    at = NOW

    def charge_of(worst_case: int) -> tuple[Charge | None, int]:
        cost = rng.choice([worst_case, rng.randint(0, worst_case)])
        fate = rng.random()
        if fate < 0.1:
            return None, 0
        if fate < 0.3:
            return an_unknown_charge(rng.randint(cost, worst_case)), cost
        return a_charge(cost), cost

    async with AsyncExitStack() as whole:
        stacks = [await whole.enter_async_context(AsyncExitStack()) for _ in range(3)]
        processes = [
            await begin(each, database, f"run-{index}", day_cap, month_cap) for index, each in enumerate(stacks)
        ]
        for _ in range(150):
            chosen = rng.randrange(3)
            process, step = processes[chosen], rng.random()
            if step < 0.5 and process.pending:
                await process.claim(rng.randint(0, 400), at)
            elif step < 0.85 and process.open:
                attempt = rng.choice([*process.open])
                charge, cost = charge_of(process.open[attempt])
                await process.end(attempt, charge, at=at)
                taken[int(at // DAY)] = taken.get(int(at // DAY), 0) + cost
            elif step < 0.93:
                await stacks[chosen].aclose()
                stacks[chosen] = await whole.enter_async_context(AsyncExitStack())
                process.store = await stacks[chosen].enter_async_context(SqliteStore.open(database))
                process.reader = await stacks[chosen].enter_async_context(SqliteReader.open(database))
            elif step > 0.98:
                at += DAY
            in_flight = sum(sum(each.open.values()) for each in processes)
            assert taken.get(int(at // DAY), 0) + in_flight <= day_cap
            assert sum(taken.values()) + in_flight <= month_cap or at >= NOW + 9 * DAY
    audit(database)


async def test_equal_rows_use_a_cap_nearly_whole(stack: AsyncExitStack, database: Path) -> None:
    """Two runs of rows that cost 10 and may cost 20, five in flight in each."""
    processes = [await begin(stack, database, name, day=700) for name in ("one", "other")]
    while True:
        for process in processes:
            while len(process.open) < 5 and process.pending and isinstance(await process.claim(20), int):
                pass
        if not any(process.open for process in processes):
            break
        for process in processes:
            for attempt in [*process.open][:2]:
                await process.end(attempt, a_charge(10))
    spent = (await processes[0].reader.spending(processes[0].caps, NOW)).day_pusd
    assert 0.97 * 700 <= spent <= 700
