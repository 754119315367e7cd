"""Once a second: counters go to disk; a cancel, the deadline and shared spending are noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.engine.items import Waiting
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.engine.lane_switch import LaneSwitch
from orchestrator.engine.learned_state import LearnedState, Snapshot
from orchestrator.engine.tasks.housekeeping import Housekeeping
from orchestrator.engine.tasks.lane_chooser import LaneChooser, LanePlan
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.policy.pricing.budget import Cap
from orchestrator.stores.reads import SharedCaps
from tests.stores.builders import Harness, a_charge, a_run

from .builders import NOW, Rig, an_open_response

pytestmark = pytest.mark.anyio


class House:
    """Housekeeping that runs, on a clock that is advanced round by round."""

    def __init__(self, rig: Rig, task: Housekeeping, saved: list[int]) -> None:
        self.rig, self.task, self.saved = rig, task, saved

    async def rounds(self, count: int = 1) -> None:
        """Let some rounds begin, and the last one end: the next begins only after it."""
        for _ in range(count):
            assert await self.rig.clock.advance_to_next() == 1.0
        while not self.rig.clock._sleepers:
            await self.rig.clock._slept.wait()

    async def written_polls(self) -> int:
        await self.rig.store.remember("flush", b"")
        return (await self.rig.reader.summary(self.rig.record.id)).polls


@asynccontextmanager
async def keeping_house(rig: Rig, **funds: Any) -> AsyncIterator[House]:
    saved: list[int] = []

    def dump() -> bytes:
        saved.append(len(saved))
        return b"1"

    learned = LearnedState(rig.store, rig.reader, [Snapshot("x", dump, lambda _: None)])
    money = rig.funds(**funds) if "caps" not in funds else shared(rig, **funds)
    memory = LaneMemory()
    switch = LaneSwitch(rig.run, SendQueue(rig.status), memory)
    plan = LanePlan(asked="background", model="", offered=(), prices={})
    lanes = LaneChooser(rig.run, switch, memory, dict.fromkeys(rig.stages, plan))
    task = Housekeeping(rig.run, money, learned, rig.other_runs(), lanes)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task.run)
        yield House(rig, task, saved)
        tasks.cancel_scope.cancel()


def shared(rig: Rig, caps: SharedCaps) -> Any:
    cap = Cap(scope="day", limit_pusd=caps.day_pusd or 0, committed_pusd=0, shared=True)
    return rig.funds(cap, caps=caps)


async def test_polls_are_written_once_each(rig: Rig) -> None:
    async with keeping_house(rig) as house:
        rig.observation.progress.polls = 3
        await house.rounds()
        assert await house.written_polls() == 3
        rig.observation.progress.polls = 5
        await house.rounds(2)
        assert await house.written_polls() == 5
        rig.observation.progress.polls = 6
        await house.task.flush()
        assert await house.written_polls() == 6


async def test_what_was_learned_is_saved_now_and_then_and_at_the_end(rig: Rig) -> None:
    async with keeping_house(rig) as house:
        await house.rounds(29)
        assert len(house.saved) == 0
        await house.rounds()
        assert len(house.saved) == 1
        await house.task.flush()
        assert len(house.saved) == 2


async def test_a_cancel_by_another_process_makes_every_response_due(rig: Rig) -> None:
    async with keeping_house(rig) as house:
        rig.status.poll_queue.push(Waiting(an_open_response(1), NOW + 500))
        await house.rounds()
        assert (rig.status.may_send, rig.status.poll_queue.next_due) == (True, NOW + 500)
        await rig.store.request_cancel(rig.record.id, NOW)
        await house.rounds()
        assert (rig.status.may_send, rig.status.poll_queue.next_due) == (False, rig.clock.now())


async def test_the_deadline_halts_the_sending_but_not_the_polling(rig: Rig) -> None:
    rig.run = replace(rig.run, record=replace(rig.record, deadline_at=NOW + 2.5))
    async with keeping_house(rig) as house:
        await house.rounds(2)
        assert (rig.status.may_send, rig.status.may_poll) == (True, True)
        await house.rounds()
        assert (rig.status.may_send, rig.status.may_poll) == (False, True)
        assert rig.status.halted is not None
        assert rig.status.halted.code == "deadline"


async def test_what_another_run_spends_fills_the_shared_cap(rig: Rig) -> None:
    other = Harness(rig.store, rig.reader, await rig.store.create_run(a_run("other")))
    [request] = await other.add(1)
    caps = SharedCaps(run_id=rig.record.id, simulated=False, day_pusd=1_000, month_pusd=None)
    async with keeping_house(rig, caps=caps) as house:
        await other.succeed(request, charge=a_charge(900), at=NOW)
        rig.observation.progress.waiting_for = "budget"
        await house.rounds()
        assert rig.observation.progress.budget_used == ("day", 90)
        await rig.status.send_signal.wait()


async def test_a_database_that_is_gone_halts_the_run_with_its_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise StoreError("the database was moved")

    async with keeping_house(rig) as house:
        await house.rounds()
        monkeypatch.setattr(rig.store, "check_in_place", gone)
        await house.rounds()
        assert rig.status.halted is not None
        assert (rig.status.halted.code, rig.status.halted.collect) == ("database_gone", False)
        assert isinstance(rig.status.error, StoreError)
