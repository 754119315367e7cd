"""What every store promises about caps over all runs: no cap is exceeded, however many processes spend under it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import anyio
import pytest

from orchestrator.core.model import Charge
from orchestrator.core.states import State
from orchestrator.stores.base import Backend
from orchestrator.stores.reads import PendingRequest, SharedCaps, Spending
from orchestrator.stores.writes import Release

from .builders import NOW, Harness, a_charge, a_run, an_unknown_charge, mark, rows

pytestmark = pytest.mark.anyio

DAY = 86_400
ROWS = 40


@dataclass
class Process:
    """A process with a run of its own; several of them share a database."""

    harness: Harness
    caps: SharedCaps
    # Requests that no one has claimed, and open attempts: the request and the worst case of each.
    pending: list[PendingRequest]
    open: dict[int, tuple[PendingRequest, int]] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        return sum(worst_case for _, worst_case in self.open.values())

    async def claim(self, worst_case: int, at: float = NOW) -> int | Spending:
        """Claim a request; returns what is spent if there is no room."""
        request = self.pending[0]
        number = 1 + len(await self.harness.reader.attempts(request.id))
        changes = {"number": number, "at": at, "worst_case_pusd": worst_case, "caps": self.caps}
        claimed = await self.harness.try_claim(request, **changes)
        assert isinstance(claimed, int | Spending)
        if isinstance(claimed, int):
            self.open[claimed] = self.pending.pop(0), worst_case
        return claimed

    async def end(self, attempt_id: int, charge: Charge | None, *, at: float = NOW) -> None:
        """End an attempt with a charge, or release it without one."""
        request, _ = self.open.pop(attempt_id)
        if charge is None:
            release = Release(request_id=request.id, attempt_id=attempt_id, not_before=0.0)
            assert await self.harness.store.release(release)
            self.pending.append(request)
            return
        assert await self.harness.accept(request, attempt_id, at=at)
        assert await self.harness.end(request, attempt_id, State.FAILED, at=at, code="x", charge=charge)


class Processes:
    """Starts processes on a database, and ends them with the test."""

    def __init__(self, backend: Backend, stack: AsyncExitStack) -> None:
        self._backend = backend
        self._stack = stack

    async def start(self, name: str, day: int, month: int | None = None, *, simulated: bool = False) -> Process:
        store = await self._stack.enter_async_context(self._backend.open_store())
        run = await store.create_run(a_run(name, simulated=simulated))
        await store.add_rows(run.id, rows(ROWS), [], mark(ROWS))
        reader = await self._stack.enter_async_context(self._backend.open_reader())
        harness = Harness(store, reader, run)
        caps = SharedCaps(run_id=run.id, simulated=simulated, day_pusd=day, month_pusd=month)
        return Process(harness, caps, await harness.fresh())

    async def split(self, run_cap: int, parts: int) -> list[Process]:
        """Start a run on which several processes work, each on its own part of the rows."""
        first = await self.start("split", day=10**9)
        caps = replace(first.caps, day_pusd=None, run_pusd=run_cap)
        shares = [first.pending[part::parts] for part in range(parts)]
        split = []
        for share in shares:
            store = await self._stack.enter_async_context(self._backend.open_store())
            reader = await self._stack.enter_async_context(self._backend.open_reader())
            split.append(Process(Harness(store, reader, first.harness.run), caps, share))
        return split

    async def restart(self, process: Process) -> None:
        """Continue a process with a store that has seen nothing of what it did before."""
        process.harness.store = await self._stack.enter_async_context(self._backend.open_store())
        process.harness.reader = await self._stack.enter_async_context(self._backend.open_reader())


@pytest.fixture
async def processes(backend: Backend) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(backend, stack)


async def test_what_one_run_sets_aside_another_cannot_spend(processes: Processes) -> None:
    one, other = [await processes.start(name, day=100) for name in ("one", "other")]
    attempt_id = await one.claim(60)
    assert isinstance(attempt_id, int)
    holders = (one.harness.run.id,)
    assert await other.claim(41) == Spending(day_pusd=0, month_pusd=0, own_pusd=0, elsewhere_pusd=60, holders=holders)
    assert isinstance(await other.claim(40), int)
    await one.end(attempt_id, a_charge(25))
    assert await one.harness.reader.spending(one.caps, NOW) == Spending(
        day_pusd=25, month_pusd=25, own_pusd=0, elsewhere_pusd=40, holders=(other.harness.run.id,)
    )
    assert isinstance(await one.claim(36), Spending)
    assert isinstance(await one.claim(35), int)


async def test_what_a_released_claim_set_aside_can_be_spent(processes: Processes) -> None:
    one = await processes.start("one", day=100)
    attempt_id = await one.claim(100)
    assert isinstance(attempt_id, int)
    assert isinstance(await one.claim(1), Spending)
    await one.end(attempt_id, None)
    assert isinstance(await one.claim(100), int)


async def test_a_refused_claim_leaves_no_trace(processes: Processes) -> None:
    one = await processes.start("one", day=100)
    assert isinstance(await one.claim(101), Spending)
    summary = await one.harness.summary()
    assert (summary.attempts, summary.requests[State.PENDING], summary.reserved_pusd) == (0, ROWS, 0)


async def test_a_day_begins_without_charges_and_a_month_continues(processes: Processes) -> None:
    one = await processes.start("one", day=100, month=150)
    first = await one.claim(100)
    assert isinstance(first, int)
    await one.end(first, a_charge(90))
    assert isinstance(await one.claim(60, at=NOW + DAY), int), "60 of the day, 150 of the month"
    assert isinstance(await one.claim(1, at=NOW + DAY), Spending)
    assert isinstance(await one.claim(40, at=NOW + 10 * DAY), int), "October; what is open counts there, too"
    assert isinstance(await one.claim(1, at=NOW + 10 * DAY), Spending)


async def test_unknown_costs_count_with_their_upper_bound(processes: Processes) -> None:
    one = await processes.start("one", day=100)
    attempt_id = await one.claim(80)
    assert isinstance(attempt_id, int)
    await one.end(attempt_id, an_unknown_charge(80))
    assert isinstance(await one.claim(21), Spending)
    assert await one.harness.store.late_charge(attempt_id, a_charge(5), "completed", None)
    assert isinstance(await one.claim(95), int)


async def test_simulated_runs_have_their_own_spending(processes: Processes) -> None:
    real = await processes.start("real", day=100)
    simulated = await processes.start("sandbox", day=100, simulated=True)
    assert isinstance(await real.claim(100), int)
    assert isinstance(await simulated.claim(100), int)
    assert isinstance(await simulated.claim(1), Spending)


async def test_claims_at_the_same_time_cannot_exceed_a_cap_together(processes: Processes) -> None:
    one = await processes.start("one", day=100)
    claims: list[object] = []

    async def claim(request: PendingRequest) -> None:
        claims.append(await one.harness.try_claim(request, worst_case_pusd=30, caps=one.caps))

    async with anyio.create_task_group() as tasks:
        for request in one.pending[:10]:
            tasks.start_soon(claim, request)
    assert sum(isinstance(each, int) for each in claims) == 3


def charge_of(rng: random.Random, worst_case: int) -> tuple[Charge | None, int]:
    """A charge for an attempt, None to release it; and what it truly cost."""
    cost = rng.choice([worst_case, rng.randint(0, worst_case)])
    draw = rng.random()
    if draw < 0.1:
        return None, 0
    return (an_unknown_charge(rng.randint(cost, worst_case)) if draw < 0.3 else a_charge(cost)), cost


@pytest.mark.parametrize("seed", range(4))
async def test_no_cap_is_exceeded_whatever_happens(processes: Processes, seed: int) -> None:
    """Three runs with random costs, ends and restarts, over several days; the true cost is checked."""
    rng = random.Random(seed)
    day_cap, month_cap = rng.randint(100, 3_000), rng.randint(300, 6_000)
    spent: Counter[int] = Counter()
    at = NOW
    running = [await processes.start(f"run-{index}", day_cap, month_cap) for index in range(3)]
    for _ in range(150):
        process, step = rng.choice(running), rng.random()
        if step < 0.5 and process.pending:
            await process.claim(rng.randint(0, 400), at)
        elif step < 0.9 and process.open:
            attempt_id = rng.choice([*process.open])
            charge, cost = charge_of(rng, process.open[attempt_id][1])
            await process.end(attempt_id, charge, at=at)
            spent[int(at // DAY)] += cost
        elif step < 0.93:
            await processes.restart(process)
        elif step > 0.98:
            at += DAY
        in_flight = sum(each.in_flight for each in running)
        assert spent[int(at // DAY)] + in_flight <= day_cap
        assert spent.total() + in_flight <= month_cap or at >= NOW + 9 * DAY


async def test_requests_of_equal_cost_use_most_of_a_cap(processes: Processes) -> None:
    """Two runs of rows that cost 10 and may cost 20, five in flight in each."""
    running = [await processes.start(name, day=700) for name in ("one", "other")]
    while True:
        for process in running:
            while len(process.open) < 5 and process.pending and isinstance(await process.claim(20), int):
                pass
        if not any(process.open for process in running):
            break
        for process in running:
            for attempt_id in [*process.open][:2]:
                await process.end(attempt_id, a_charge(10))
    spent = (await running[0].harness.reader.spending(running[0].caps, NOW)).day_pusd
    assert 0.97 * 700 <= spent <= 700


async def test_the_processes_of_a_run_share_its_cap(processes: Processes) -> None:
    one, other = await processes.split(100, parts=2)
    attempt_id = await one.claim(60)
    assert isinstance(attempt_id, int)
    refused = await other.claim(41)
    assert isinstance(refused, Spending)
    assert (refused.run_pusd, refused.own_pusd) == (0, 60)
    assert isinstance(await other.claim(40), int)
    await one.end(attempt_id, a_charge(25))
    spent = await other.harness.reader.spending(other.caps, NOW + 40 * DAY)
    assert (spent.run_pusd, spent.own_pusd) == (25, 40), "a run's cap has no days"
    assert isinstance(await one.claim(36, at=NOW + 40 * DAY), Spending)
    assert isinstance(await one.claim(35, at=NOW + 40 * DAY), int)


async def test_other_runs_do_not_spend_the_cap_of_a_run(processes: Processes) -> None:
    [one] = await processes.split(100, parts=1)
    stranger = await processes.start("stranger", day=10**9)
    held = await stranger.claim(90)
    assert isinstance(held, int)
    await stranger.end(held, a_charge(90))
    assert isinstance(await stranger.claim(90), int)
    assert isinstance(await one.claim(100), int)


async def test_claims_of_a_run_at_the_same_time_cannot_exceed_its_cap(processes: Processes) -> None:
    split = await processes.split(100, parts=4)
    claims: list[object] = []

    async def claim(process: Process) -> None:
        claims.append(await process.claim(30))

    async with anyio.create_task_group() as tasks:
        for process in split:
            tasks.start_soon(claim, process)
    assert sum(isinstance(each, int) for each in claims) == 3


@pytest.mark.parametrize("seed", range(3))
async def test_the_cap_of_a_run_holds_over_its_processes_whatever_happens(processes: Processes, seed: int) -> None:
    rng = random.Random(seed)
    cap, spent = rng.randint(500, 3_000), 0
    split = await processes.split(cap, parts=3)
    for _ in range(150):
        process, step = rng.choice(split), rng.random()
        if step < 0.5 and process.pending:
            await process.claim(rng.randint(0, 400))
        elif step < 0.95 and process.open:
            attempt_id = rng.choice([*process.open])
            charge, cost = charge_of(rng, process.open[attempt_id][1])
            await process.end(attempt_id, charge)
            spent += cost
        elif step > 0.97:
            await processes.restart(process)
        assert spent + sum(each.in_flight for each in split) <= cap
