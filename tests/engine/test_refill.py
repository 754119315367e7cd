"""Requests are made ready ahead of the sending: due retries first, then fresh ones of each stage in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.refill import Refill
from orchestrator.engine.tasks.send_queue import SendQueue
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
        self.refill = Refill(rig.run, self.queue, {name: preparation(folder) for name in rig.stages}, deduplicator)

    async def add(self, count: int, start: int = 0, **changes: Any) -> None:
        made = [
            a_row(number, row=b'{"text": "row %d"}' % number, **changes) for number in range(start, start + count)
        ]
        await self.rig.store.add_rows(self.rig.record.id, made, [], mark(start + count))

    def keys(self, stage: str = "main") -> list[str]:
        return [prepared.request.key for prepared in self.queue.ready.get((stage, "gpt-5-mini"), ())]


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
