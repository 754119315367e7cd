"""What every backend promises about shards: their bounds, their locks, and duplicates between them."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import RunBusy, UsageError
from orchestrator.core.model import MAIN_STAGE
from orchestrator.core.states import State
from orchestrator.stores.base import Backend
from orchestrator.stores.reads import Duplicate
from orchestrator.stores.shards import Shard, shards_of
from orchestrator.stores.writes import Release

from .builders import NOW, Harness, a_charge, a_run, mark, rows

pytestmark = pytest.mark.anyio


def test_shards_cover_a_range_without_a_gap() -> None:
    assert shards_of(11, 20, 4) == [Shard(1, 11, 14), Shard(2, 15, 18), Shard(3, 19, 20)]
    assert shards_of(1, 4, 4) == [Shard(1, 1, 4)]
    assert shards_of(7, 7, 100) == [Shard(1, 7, 7)]


async def _two_shards(harness: Harness) -> list[Shard]:
    """Two shards of a run, with rows of another run between the two."""
    store, run = harness.store, harness.run
    other = await store.create_run(a_run("other"))
    planned = rows(8)
    await store.add_rows(run.id, planned[:4], [], mark(4))
    await store.add_rows(other.id, rows(3), [], mark(3))
    await store.add_rows(run.id, planned[4:], [], mark(8))
    found = await harness.reader.request_range(run.id)
    assert found is not None
    first, last = found
    middle = (await harness.fresh())[3].id
    return [Shard(1, first, middle), Shard(2, middle + 1, last)]


async def test_a_run_without_rows_has_no_range(harness: Harness) -> None:
    assert await harness.reader.request_range(harness.run.id) is None


async def test_what_is_read_of_a_shard_is_in_it_and_of_the_run(harness: Harness) -> None:
    shards, run_id, reader = await _two_shards(harness), harness.run.id, harness.reader
    whole = [each.id for each in await harness.fresh()]
    parts = [
        [each.id for each in await reader.fresh_in(run_id, shard, stage=MAIN_STAGE, after_id=0, limit=100)]
        for shard in shards
    ]
    assert parts == [whole[:4], whole[4:]]
    later = await reader.fresh_in(run_id, shards[1], stage=MAIN_STAGE, after_id=whole[5], limit=1)
    assert [each.id for each in later] == [whole[6]]
    assert await reader.fresh_in(run_id, shards[0], stage=MAIN_STAGE, after_id=whole[5], limit=1) == []


async def test_open_delayed_and_settled_requests_are_those_of_the_shard(harness: Harness) -> None:
    shards, run_id, reader = await _two_shards(harness), harness.run.id, harness.reader
    pending = await harness.fresh()
    opened, put_off = await harness.claim(pending[0]), await harness.claim(pending[5])
    assert await harness.accept(pending[0], opened)
    assert await harness.store.release(Release(request_id=pending[5].id, attempt_id=put_off, not_before=NOW + 5))
    assert [[each.request_id for each in await reader.open_in(run_id, shard)] for shard in shards] == [
        [pending[0].id],
        [],
    ]
    delayed = [[each.id for each in await reader.delayed_in(run_id, [shard], limit=9)] for shard in shards]
    assert delayed == [[], [pending[5].id]]
    assert [each.id for each in await reader.delayed_in(run_id, shards, limit=9)] == [pending[5].id]
    assert await reader.delayed_in(run_id, [], limit=9) == []
    for request in pending[1:4]:
        await harness.store.fail_pending(request.id, "x", "x", NOW)
    assert await reader.has_unsettled(run_id, shards[0]), "one is open"
    assert await harness.end(pending[0], opened, State.SUCCEEDED, charge=a_charge(1)) is not None
    assert [await reader.has_unsettled(run_id, shard) for shard in shards] == [False, True]


async def test_a_claim_is_refused_if_the_run_asks_the_same_already(harness: Harness) -> None:
    await _two_shards(harness)
    first, second, third, *_ = await harness.fresh()
    same = {"fingerprint": b"same", "asks_once": True}
    claimed = await harness.try_claim(first, **same)
    assert isinstance(claimed, int)
    assert await harness.try_claim(second, **same) == Duplicate(first.id, here=True)
    assert isinstance(await harness.try_claim(third, fingerprint=b"other", asks_once=True), int)
    assert await harness.store.release(Release(request_id=first.id, attempt_id=claimed, not_before=0.0))
    assert isinstance(await harness.try_claim(first, **same), int), "it is no duplicate of itself"
    assert await harness.store.join(second.id, Duplicate(first.id, here=True), b"same", NOW)
    assert await harness.try_claim(second, **same) is None, "it is not pending"


async def test_shards_are_locked_one_by_one_and_against_the_whole_run(backend: Backend, harness: Harness) -> None:
    run = harness.run
    try:
        with backend.lock_shard(run.id, 1, "demo"):
            pass
    except UsageError:
        pytest.skip("this database has no shards")
    with backend.lock_shard(run.id, 1, "demo"), backend.lock_shard(run.id, 2, "demo"):
        for again in (backend.lock_shard(run.id, 2, "demo"), backend.lock_shards(run.id, "demo")):
            with pytest.raises(RunBusy, match="demo"), again:
                pass
        with pytest.raises(RunBusy, match="hold shards of it"), backend.lock(run.id, "demo"):
            pass
        with backend.lock_shard(run.id + 1, 2, "other"):
            pass
        assert not backend.is_locked(run.id)
    with backend.lock(run.id, "demo"), backend.lock_shards(run.id, "demo"):
        with pytest.raises(RunBusy), backend.lock_shard(run.id, 3, "demo"):
            pass
        with backend.lock_shard(run.id + 1, 3, "other"):
            pass
    with backend.lock(run.id, "demo"), backend.lock_shard(run.id, 3, "demo"):
        assert backend.is_locked(run.id), "the process that starts the workers has the run"
