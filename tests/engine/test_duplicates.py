"""Duplicates: one of them is sent, the others share its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.core.states import State
from orchestrator.engine.items import After, Prepared
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.send_queue import SendQueue
from tests.stores.builders import Harness, a_run

from .builders import NOW, Rig, a_prepared, a_stage

pytestmark = pytest.mark.anyio


class Bench:
    """The deduplicator of a run, with rows of which each asks what its letter says."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.queue = SendQueue(rig.status)
        # Since when answers of other runs may be used; None: they do not matter.
        self.others_since: float | None = None
        self.harness = Harness(rig.store, rig.reader, rig.record)
        self.routed: list[After] = []
        route = self.routed.append
        self._deduplicator = Deduplicator(rig.run, self.queue, rig.other_runs(route), route=route)

    async def rows(self, letters: str, start: int = 0) -> list[Prepared]:
        added = await self.harness.add(len(letters), start)
        return [
            a_prepared(request, fingerprint=letter.encode(), others_since=self.others_since)
            for request, letter in zip(added[-len(letters) :], letters, strict=True)
        ]

    async def dedupe(self, ready: Sequence[Prepared], **settings: Any) -> list[str]:
        to_send = await self._deduplicator.dedupe(ready, a_stage(**settings).settings)
        return [prepared.request.key for prepared in to_send]


@pytest.fixture
def bench(rig: Rig) -> Bench:
    return Bench(rig)


async def test_the_first_of_each_kind_is_sent(bench: Bench) -> None:
    assert await bench.dedupe(await bench.rows("abab")) == ["row-0", "row-1"]
    assert await bench.harness.states() == {State.PENDING: 2, State.BLOCKED: 2}
    assert bench.rig.observation.progress.requests[State.BLOCKED] == 2


async def test_what_is_in_hand_is_known_to_the_next_batch(bench: Bench) -> None:
    await bench.dedupe(await bench.rows("a"))
    assert await bench.dedupe(await bench.rows("ab", start=1)) == ["row-2"]


async def test_what_was_claimed_is_found_in_the_store(bench: Bench) -> None:
    [sent] = await bench.rows("a")
    await bench.dedupe([sent])
    await bench.harness.claim(sent.request, fingerprint=b"a")
    bench.queue.forget(sent)
    assert bench.queue.asked == {}
    assert await bench.dedupe(await bench.rows("a", start=1)) == []


async def test_a_duplicate_of_an_answered_request_ends_at_once(bench: Bench) -> None:
    [sent] = await bench.rows("a")
    attempt = await bench.harness.submit(sent.request, fingerprint=b"a")
    await bench.harness.end(sent.request, attempt, State.SUCCEEDED)
    assert await bench.dedupe(await bench.rows("a", start=1)) == []
    assert await bench.harness.states() == {State.SUCCEEDED: 2}
    assert len(bench.rig.events) == 1


async def test_a_retry_is_no_duplicate_of_itself(bench: Bench) -> None:
    [sent] = await bench.rows("a")
    await bench.dedupe([sent])
    attempt = await bench.harness.submit(sent.request, fingerprint=b"a")
    await bench.harness.end(sent.request, attempt, State.PENDING, not_before=NOW)
    bench.queue.forget(sent)
    assert await bench.dedupe([sent]) == ["row-0"]


async def test_each_is_sent_if_the_job_wants_duplicates(bench: Bench) -> None:
    assert await bench.dedupe(await bench.rows("aa"), ask_once=False) == ["row-0", "row-1"]
    assert bench.queue.asked == {}


@pytest.mark.parametrize(("since", "sent"), [(None, ["row-0"]), (NOW - 3_600.0, []), (NOW - 1, ["row-0"])])
async def test_answers_of_other_runs_are_reused_up_to_an_age(
    bench: Bench, since: float | None, sent: list[str]
) -> None:
    earlier = Harness(bench.rig.store, bench.rig.reader, await bench.rig.store.create_run(a_run("earlier")))
    [request] = await earlier.add(1)
    attempt = await earlier.submit(request, fingerprint=b"a", at=NOW - 100)
    await earlier.end(request, attempt, State.SUCCEEDED, at=NOW - 60)
    bench.others_since = since
    assert await bench.dedupe(await bench.rows("a")) == sent


async def test_requests_without_a_fingerprint_are_sent(bench: Bench) -> None:
    [request] = await bench.harness.add(1)
    assert await bench.dedupe([a_prepared(request)]) == ["row-0"]
