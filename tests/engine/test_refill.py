"""Requests are made ready ahead of the sending: due retries first, then fresh ones of each stage in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.core.states import State
from orchestrator.engine.items import Prepared
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.refill import Refill
from orchestrator.engine.tasks.send_queue import QueueName, SendQueue
from tests.stores.builders import Harness, a_row, mark

from .builders import NOW, Rig, a_stage
from .test_preparation import preparation

pytestmark = pytest.mark.anyio


class Bench:
    """A refill over rows in the store."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.queue = SendQueue(rig.status)
        self.harness = Harness(rig.store, rig.reader, rig.record)
        deduplicator = Deduplicator(rig.run, self.queue, rig.other_runs(), route=lambda _: None)
        self.refill = Refill(
            rig.run,
            self.queue,
            {name: preparation(folder, stage) for name, stage in rig.stages.items()},
            deduplicator,
        )

    async def add(self, count: int, start: int = 0, **changes: Any) -> None:
        made = [
            a_row(number, row=b'{"text": "row %d"}' % number, **changes) for number in range(start, start + count)
        ]
        await self.rig.store.add_rows(self.rig.record.id, made, [], mark(start + count))

    def keys(self, stage: str = "main") -> list[str]:
        return [prepared.request.key for prepared in self.ready(stage)]

    def ready(self, stage: str = "main") -> list[Prepared]:
        return [each for name, queue in self.queue.ready.items() if name.stage == stage for each in queue]


@pytest.fixture
def bench(rig: Rig, tmp_path: Path) -> Bench:
    return Bench(rig, tmp_path)


async def test_fresh_rows_come_once_and_in_order(bench: Bench) -> None:
    await bench.add(3)
    for _ in range(2):
        await bench.refill.fill()
        assert bench.keys() == ["row-0", "row-1", "row-2"]
    await bench.add(1, start=3)
    await bench.refill.fill()
    assert bench.keys() == ["row-0", "row-1", "row-2", "row-3"]


async def test_a_bounded_number_is_kept_ready(bench: Bench) -> None:
    await bench.add(300)
    await bench.refill.fill()
    assert len(bench.queue) == 256


async def test_it_is_exhausted_only_when_the_stage_is_sealed(bench: Bench) -> None:
    await bench.refill.fill()
    assert not bench.refill.exhausted
    bench.rig.status.seal("main")
    await bench.refill.fill()
    assert bench.refill.exhausted


async def test_a_due_retry_precedes_fresh_rows_and_a_later_one_waits(bench: Bench) -> None:
    await bench.add(4)
    first, second, *_ = await bench.harness.fresh()
    await bench.harness.retry(first, at=NOW, not_before=NOW)
    await bench.harness.retry(second, at=NOW, not_before=NOW + 30)
    await bench.refill.fill()
    assert bench.keys() == ["row-0", "row-2", "row-3"]
    assert bench.queue.delayed_at == NOW + 30
    bench.rig.clock.advance(30)
    await bench.refill.fill()
    assert bench.keys() == ["row-1", "row-0", "row-2", "row-3"]
    assert bench.queue.delayed_at is None


async def test_a_row_that_makes_no_request_fails_without_an_attempt(bench: Bench) -> None:
    await bench.rig.store.add_rows(bench.rig.record.id, [a_row(0, row=b"{}")], [], mark(1))
    await bench.refill.fill()
    assert bench.keys() == []
    assert (await bench.harness.request("row-0")).code == "row_invalid"
    assert await bench.harness.states() == {State.FAILED: 1}


async def test_stages_are_read_and_sealed_each_by_itself(rig: Rig, tmp_path: Path) -> None:
    bench = Bench(Rig(rig.store, rig.reader, rig.record, a_stage(), a_stage("review")), tmp_path)
    await bench.add(2)
    await bench.add(1, start=2, stage="review")
    await bench.refill.fill()
    assert (bench.keys(), bench.keys("review")) == (["row-0", "row-1"], ["row-2"])
    bench.rig.status.seal("main")
    await bench.refill.fill()
    assert not bench.refill.exhausted
    await bench.add(1, start=3, stage="review")
    bench.rig.status.seal("review")
    await bench.refill.fill()
    assert bench.keys("review") == ["row-2", "row-3"]
    await bench.refill.fill()
    assert bench.refill.exhausted


async def test_what_is_ready_is_made_ready_again_for_another_lane(bench: Bench) -> None:
    await bench.add(600)
    bench.rig.status.seal("main")
    await bench.refill.fill()
    sending = [bench.queue.ready[QueueName("main", "gpt-5-mini", Lane.BACKGROUND)].popleft() for _ in range(3)]
    stage = bench.rig.stages["main"]
    stage.lane = Lane.SYNC
    bench.queue.change_lane("main", Lane.BACKGROUND, Lane.SYNC)
    assert not bench.keys()
    assert not bench.rig.status.queue_empty
    await bench.refill.fill()
    # Those that are being sent stay in their lane, and are not made ready a second time.
    assert bench.keys() == [f"row-{n}" for n in range(3, 256)]
    assert {each.lane for each in bench.ready()} == {Lane.SYNC}
    # One of them could not be sent: it comes back in the new lane, and once.
    bench.queue.forget(sending[0])
    bench.queue.take_back(sending[0])
    bench.queue.ready[QueueName("main", "gpt-5-mini", Lane.SYNC)].clear()
    await bench.refill.fill()
    assert bench.keys()[0] == "row-0"
    assert {each.lane for each in bench.ready()} == {Lane.SYNC}


async def test_a_lane_that_was_left_can_be_taken_again(bench: Bench) -> None:
    await bench.add(2)
    stage = bench.rig.stages["main"]
    for old, new in ((Lane.BACKGROUND, Lane.SYNC), (Lane.SYNC, Lane.BACKGROUND)):
        stage.lane = new
        bench.queue.change_lane("main", old, new)
    await bench.refill.fill()
    assert [(each.request.key, each.lane) for each in bench.ready()] == [
        ("row-0", Lane.BACKGROUND),
        ("row-1", Lane.BACKGROUND),
    ]
