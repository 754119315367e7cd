"""A stage with ``auto`` gets its lane before anything is sent, and another one when time gets short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.core.events import Warned
from orchestrator.core.lanes import Lane
from orchestrator.core.states import State
from orchestrator.engine.items import Waiting
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.engine.lane_notes import lane_notes
from orchestrator.engine.lane_switch import LaneSwitch
from orchestrator.engine.tasks.lane_chooser import LaneChooser, LanePlan
from orchestrator.engine.tasks.send_queue import SendQueue

from .builders import NOW, Rig, a_prepared, an_open_response

pytestmark = pytest.mark.anyio

HOUR = 3600.0
PRICES: Mapping[Lane, float] = {Lane.WINDOW_2H: 0.7, Lane.WINDOW_8H: 0.6}
WINDOWS = (Lane.WINDOW_2H, Lane.WINDOW_8H)


@dataclass
class Bench:
    """A chooser of one run whose deadline is some hours away; each ``chooser`` is another process of the run."""

    rig: Rig
    hours: float | None
    asked: str = "auto"
    offered: tuple[Lane, ...] = WINDOWS
    memory: LaneMemory = field(default_factory=LaneMemory)

    def __post_init__(self) -> None:
        deadline_at = None if self.hours is None else NOW + self.hours * HOUR
        self.rig.run = replace(self.rig.run, record=replace(self.rig.record, deadline_at=deadline_at))
        self.memory.note_pace("gpt-5-mini", 10.0)
        self.queue = SendQueue(self.rig.status)
        self.switch = LaneSwitch(self.rig.run, self.queue, self.memory)
        plan = LanePlan(asked=self.asked, model="gpt-5-mini", offered=self.offered, prices=PRICES)
        self.chooser = LaneChooser(self.rig.run, self.switch, self.memory, dict.fromkeys(self.rig.stages, plan))
        self.stage = self.rig.stages["main"]
        if self.asked != "auto":
            self.stage.lane = Lane(self.asked)

    async def begin(self, rows: int = 1_000) -> Lane:
        """The rows are planned; returns the lane that they take."""
        self.rig.observation.progress.requests[State.PENDING] = rows
        await self.chooser.recall()
        self.rig.status.seal("main")
        await self.chooser.check()
        return self.stage.lane

    async def at(self, hours: float) -> Lane:
        """The lane so long after the start."""
        self.rig.clock.advance(NOW + hours * HOUR - self.rig.clock.now())
        await self.chooser.check()
        return self.stage.lane


def waits(rig: Rig) -> bool:
    return rig.status.waits_for_plan


async def test_nothing_is_sent_before_the_lane_is_chosen(rig: Rig) -> None:
    chooser = Bench(rig, 9)
    rig.observation.progress.requests[State.PENDING] = 1_000
    await chooser.chooser.recall()
    await chooser.chooser.check()
    assert waits(rig)
    rig.status.seal("main")
    await chooser.chooser.check()
    assert not waits(rig)
    assert chooser.stage.lane is Lane.WINDOW_8H


@pytest.mark.parametrize(("hours", "lane"), [(None, Lane.BACKGROUND), (0.3, Lane.BACKGROUND), (2.5, Lane.WINDOW_2H)])
async def test_the_deadline_decides(rig: Rig, hours: float | None, lane: Lane) -> None:
    assert await Bench(rig, hours).begin() is lane
    assert rig.observation.progress.lanes == (lane.value,)


async def test_a_few_rows_are_sent_to_the_background(rig: Rig) -> None:
    assert await Bench(rig, 9).begin(rows=49) is Lane.BACKGROUND


async def test_what_is_not_done_is_asked_for_in_a_faster_lane(rig: Rig) -> None:
    chooser = Bench(rig, 9)
    assert await chooser.begin() is Lane.WINDOW_8H
    chooser.queue.add(a_prepared(1, lane=Lane.WINDOW_8H))
    rig.status.poll_queue.push(Waiting(an_open_response(2, chooser.stage, lane=Lane.WINDOW_8H), NOW + 20 * HOUR))
    [note] = await lane_notes(rig.reader, rig.record.id)
    assert note.reconsider_at is not None
    assert await chooser.at((note.reconsider_at - NOW - 2) / HOUR) is Lane.WINDOW_8H
    assert await chooser.at((note.reconsider_at - NOW) / HOUR) is Lane.BACKGROUND
    # The open response is polled, and so cancelled, at once; what was ready is made ready again.
    assert chooser.stage.cancelled_lanes == {Lane.WINDOW_8H}
    assert rig.status.poll_queue.next_due == rig.clock.now()
    assert len(chooser.queue) == 0
    assert chooser.queue.to_reread == {"main"}
    first, second = await lane_notes(rig.reader, rig.record.id)
    assert (first.lane, second.lane, second.reconsider_at) == (Lane.WINDOW_8H, Lane.BACKGROUND, None)


@pytest.mark.parametrize(("asked", "cancels"), [("window-2h", True), ("flex", False), ("batch", False)])
async def test_a_lane_that_the_job_names_is_left_in_time_too(rig: Rig, asked: str, cancels: bool) -> None:
    chooser = Bench(rig, 3, asked=asked)
    assert await chooser.begin() is Lane(asked)
    assert await chooser.at(2.5) is Lane(asked)
    assert await chooser.at(2.8) is Lane.BACKGROUND
    assert chooser.stage.cancelled_lanes == ({Lane(asked)} if cancels else set())
    # A batch is cancelled as a whole.
    assert rig.status.recalled_stages == ({"main"} if asked == "batch" else set())


async def test_a_lane_that_the_job_names_is_kept_without_a_deadline(rig: Rig) -> None:
    chooser = Bench(rig, None, asked="window-8h")
    assert await chooser.begin() is Lane.WINDOW_8H
    assert await chooser.at(1_000) is Lane.WINDOW_8H


async def test_another_process_continues_in_the_lane(rig: Rig) -> None:
    first = Bench(rig, 9)
    assert await first.begin() is Lane.WINDOW_8H
    rig.stages["main"].lane = Lane.BACKGROUND
    second = Bench(rig, 9)
    await second.chooser.recall()
    assert second.stage.lane is Lane.WINDOW_8H
    assert not waits(rig)
    # It knows as well when to leave it, and that what the first process has sent must be cancelled then.
    assert await second.at(8.9) is Lane.BACKGROUND
    rig.stages["main"].lane = Lane.BACKGROUND
    rig.stages["main"].cancelled_lanes.clear()
    third = Bench(rig, 9)
    await third.chooser.recall()
    assert (third.stage.lane, third.stage.cancelled_lanes) == (Lane.BACKGROUND, {Lane.WINDOW_8H})


async def test_a_model_that_refuses_a_window_is_remembered(rig: Rig) -> None:
    chooser = Bench(rig, 9)
    await chooser.begin()
    refused = a_prepared(1, lane=Lane.WINDOW_8H)
    for _ in range(3):
        await chooser.switch.refused(chooser.stage, refused)
    assert [event.code for event in rig.events if isinstance(event, Warned)] == ["lane_refused"]
    assert chooser.stage.lane_for("gpt-5-mini") is Lane.BACKGROUND
    assert chooser.stage.lane_for("gpt-5") is Lane.WINDOW_8H
    # What is left may still take the other window; one refused body does not come back.
    assert await chooser.at(0.01) is Lane.WINDOW_2H
    chooser.queue.take_back(refused)
    assert len(chooser.queue) == 0
    later = LaneMemory()
    later.load(chooser.memory.dump())
    assert later.refuses("gpt-5-mini", Lane.WINDOW_8H)
    assert later.history("gpt-5-mini") == chooser.memory.history("gpt-5-mini")


async def test_durations_and_paces_are_learned(rig: Rig) -> None:
    chooser = Bench(rig, None)
    await chooser.begin()
    chooser.stage.took.append(("gpt-5-mini", Lane.WINDOW_2H, 600.0))
    await chooser.at(0.01)
    assert chooser.memory.history("gpt-5-mini").durations == {Lane.WINDOW_2H: (600.0,)}
    rig.observation.progress.settled_here = 720
    rig.clock.advance(24.0)
    chooser.chooser.finish()
    assert chooser.memory.history("gpt-5-mini").paces == (10.0, 12.0)


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b'{"m": 1}', b'{"m": {"paces": ["x"]}}'])
def test_what_cannot_be_read_is_learned_again(kept: bytes) -> None:
    memory = LaneMemory()
    memory.load(kept)
    assert memory.history("m").paces == ()
    assert memory.refusals() == set()


def test_only_the_latest_observations_count() -> None:
    memory = LaneMemory()
    for number in range(1, 100):
        memory.note_pace("m", float(number))
        memory.note_duration("m", Lane.WINDOW_2H, float(number))
    assert memory.history("m").paces[0] == 80.0
    assert len(memory.history("m").durations[Lane.WINDOW_2H]) == 50
