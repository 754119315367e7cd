"""What holds requests back, when to ask again, and when nothing can ever be sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.tasks.admission import Admission
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.engine.tasks.sender import SendGate
from orchestrator.policy.pricing.budget import Cap

from .builders import NOW, Rig, a_prepared

pytestmark = pytest.mark.anyio

NOTHING = Admission(())


class Bench:
    """The gate of a run whose stage is sealed and whose queue is empty."""

    def __init__(self, rig: Rig, *caps: Cap, deadline_at: float | None = None) -> None:
        rig.run = replace(rig.run, record=replace(rig.record, deadline_at=deadline_at))
        rig.status.seal("main")
        self.status, self.progress = rig.status, rig.observation.progress
        self.queue = SendQueue(rig.status)
        self.queue.delayed_at = None
        self.outages = rig.run.endpoints[0].outages
        self.funds = rig.funds(*caps)
        self.gate = SendGate(rig.run, self.queue, self.funds)

    def halts_with(self, admission: Admission = NOTHING) -> str | None:
        halted = self.gate.halt(admission)
        return None if halted is None else halted.code


async def test_a_budget_that_nothing_in_flight_can_free_halts_the_run(rig: Rig) -> None:
    bench = Bench(rig, Cap(scope="run", limit_pusd=5, committed_pusd=0))
    bench.queue.add(a_prepared(1, worst_case_pusd=10))
    held = bench.gate.admit(NOW)
    assert (held.admitted, held.held_by) == ((), "budget")
    bench.status.sending = 1
    assert bench.halts_with(held) is None
    bench.status.sending = 0
    assert bench.halts_with(held) == "budget"


async def test_a_shared_cap_that_another_run_may_free_is_waited_for(rig: Rig) -> None:
    bench = Bench(rig, Cap(scope="day", limit_pusd=15, committed_pusd=0, shared=True))
    bench.funds.budget.note_others(10, active=True)
    bench.queue.add(a_prepared(1, worst_case_pusd=10))
    held = bench.gate.admit(NOW)
    assert held.held_by == "budget"
    assert bench.halts_with(held) is None
    bench.funds.budget.note_others(10, active=False)
    assert bench.halts_with(bench.gate.admit(NOW)) == "budget"


@pytest.mark.parametrize(("due_s", "code"), [(50.0, None), (70.0, "deadline")])
async def test_what_is_only_due_beyond_the_deadline_halts_the_run(rig: Rig, due_s: float, code: str | None) -> None:
    bench = Bench(rig, deadline_at=NOW + 60)
    bench.queue.put_off(NOW + due_s)
    assert bench.halts_with() == code
    bench.queue.add(a_prepared(1))
    assert bench.halts_with() is None


async def test_the_sender_wakes_for_whatever_comes_first(rig: Rig) -> None:
    bench = Bench(rig)
    assert bench.gate.wake_at(NOW, NOTHING) is None
    bench.queue.put_off(NOW + 30)
    assert bench.gate.wake_at(NOW, NOTHING) == NOW + 30
    assert bench.gate.wake_at(NOW, replace(NOTHING, ask_again_at=NOW + 3)) == NOW + 3
    assert bench.gate.wake_at(NOW + 40, NOTHING) == NOW + 40


async def test_an_outage_is_shown_before_any_other_reason(rig: Rig) -> None:
    bench = Bench(rig)
    bench.gate.show(replace(NOTHING, held_by="rate limit", ask_again_at=NOW + 3))
    assert (bench.progress.waiting_for, bench.progress.waiting_until) == ("rate limit", NOW + 3)
    for _ in range(20):
        bench.outages.record_failure(bench.outages.creates, NOW, "server_error", again=False)
    bench.gate.show(replace(NOTHING, held_by="rate limit", ask_again_at=NOW + 3))
    assert (bench.progress.waiting_for, bench.progress.waiting_until) == ("outage", bench.outages.next_probe_at)
