"""What every store promises about the results of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from json import loads

import pytest

from orchestrator.app.result_details import with_details
from orchestrator.core.states import State
from orchestrator.stores.reads import ResultDetails, ResultRecord

from .builders import Harness, a_run, mark, rows

pytestmark = pytest.mark.anyio


async def test_results_come_in_the_order_of_the_input(harness: Harness) -> None:
    other = Harness(harness.store, harness.reader, await harness.store.create_run(a_run("other")))
    requests = []
    for start in (0, 3):  # two runs are planned at the same time
        requests = await harness.add(3, start)
        await other.add(3, start)
    for request in reversed(requests):
        await harness.succeed(request)
    keys = [f"row-{n}" for n in range(6)]
    assert [record.key for record in await harness.results()] == keys
    assert [record.key for record in await other.results(State.PENDING)] == keys


async def test_all_results_of_a_large_run_are_read(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, rows(2_500), [], mark(2_500))
    assert [record.key for record in await harness.results(State.PENDING)] == [f"row-{n}" for n in range(2_500)]
    assert await harness.results(State.FAILED) == []


async def test_a_run_without_rows_has_no_results(harness: Harness) -> None:
    assert await harness.results() == []
    assert await harness.states() == {}
    assert await harness.reader.costs(harness.run.id, ["model"]) == []


async def test_the_details_of_results(harness: Harness) -> None:
    requests = await harness.add(3)
    await harness.succeed(requests[0], output_text="Hi", body=b'{"id":"resp_0","output":"Hi"}')
    await harness.succeed(requests[2], output_text="Ho", body=b'{"id":"resp_2","output":"Ho"}')
    wanted = [requests[2].id, requests[1].id, requests[0].id]
    found = await harness.reader.details(wanted, with_bodies=True)
    assert found == {
        requests[2].id: ResultDetails(b'{"n":2}', b'{"id":"resp_2","output":"Ho"}'),
        requests[1].id: ResultDetails(b'{"n":1}'),
        requests[0].id: ResultDetails(b'{"n":0}', b'{"id":"resp_0","output":"Hi"}'),
    }
    assert (await harness.reader.details(wanted[:1], with_bodies=False)).popitem()[1] == ResultDetails(b'{"n":2}')
    assert await harness.reader.details([], with_bodies=True) == {}


async def test_long_details_come_with_their_records_in_any_order(harness: Harness) -> None:
    requests = await harness.add(40)
    for number, request in enumerate(requests):
        body = b'{"id":"resp_%d","output":"%s"}' % (number, b"x" * 600_000)
        await harness.succeed(request, output_text="Hi", body=body)
    backwards = [*reversed(await harness.results())]

    async def records() -> AsyncIterator[ResultRecord]:
        for each in backwards:
            yield each

    found = [each async for each in with_details(records(), harness.reader, bodies=True)]
    assert [each.key for each in found] == [each.key for each in backwards]
    ids = [loads(each.details.body or b"{}")["id"] for each in found if each.details is not None]
    assert ids == [f"resp_{number}" for number in reversed(range(40))]


async def test_unusual_texts_are_kept(harness: Harness) -> None:
    requests = await harness.add(3)
    await harness.succeed(requests[0], output_text="nul \x00 inside, ünïcödé, \U0001f600")
    await harness.succeed(requests[1], output_text="half a pair \ud83d", body=b"\xff not UTF-8")
    await harness.fail(requests[2], code="server_error", message="half \udc00")
    texts = [record.output_text for record in await harness.results(State.SUCCEEDED)]
    assert texts == ["nul \x00 inside, ünïcödé, \U0001f600", "half a pair ?"]
    [attempt] = await harness.reader.attempts(requests[1].id)
    assert attempt.body == b"\xff not UTF-8"
    assert (await harness.request(requests[2].key)).message == "half ?"
