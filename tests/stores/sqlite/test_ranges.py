"""Reading in pages and writing in ranges of ids gives the same as doing it at once."""

from __future__ import annotations

import pytest

from orchestrator.core.states import State
from orchestrator.stores.sql import bulk_updates
from orchestrator.stores.sql import sql_reader as reader_module
from tests.stores.builders import NOW, Harness, a_run

pytestmark = pytest.mark.anyio


async def test_bulk_updates_of_interleaved_runs(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_updates, "_RANGE", 7)
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other")))
    for start in range(0, 40, 20):
        await harness.add(20, start)
        await other.add(20, start)
    await harness.store.request_cancel(harness.run.id, NOW)
    assert await harness.states() == {State.CANCELLED: 40}
    assert await other.states() == {State.PENDING: 40}
    assert await harness.requeue(State.CANCELLED, code="cancelled") == 40
    assert await harness.states() == {State.PENDING: 40}


async def test_pages_of_long_results_are_shorter(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_FIRST_PAGE", 4)
    monkeypatch.setattr(reader_module, "_PAGE_CHARACTERS", 20)
    requests = await harness.add(30)
    for request in requests[:10]:
        await harness.succeed(request, output_text=request.key * 4)
    assert [record.key for record in await harness.results()] == [request.key for request in requests]
