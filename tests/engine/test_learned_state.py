"""What a run learned is there for the next one; what cannot be read only costs a cold start."""

from __future__ import annotations

import random

import pytest

from orchestrator.engine.learned_state import LearnedState, Snapshot
from orchestrator.engine.poll_schedules import Schedules

from .builders import NOW, Rig, allowances


def learned(rig: Rig, *snapshots: Snapshot) -> LearnedState:
    return LearnedState(rig.store, rig.reader, list(snapshots))


@pytest.mark.anyio
async def test_a_snapshot_comes_back_and_an_absent_one_is_not_loaded(rig: Rig) -> None:
    loaded: list[bytes] = []
    await learned(rig, Snapshot("a", lambda: b"1", loaded.append)).save()
    await learned(rig, Snapshot("a", lambda: b"", loaded.append), Snapshot("b", lambda: b"", loaded.append)).recall()
    assert loaded == [b"1"]


def schedules(*, ended_after_s: float | None = None) -> Schedules:
    made = Schedules(random.Random(1), polls_per_minute=6_000)
    if ended_after_s is not None:
        schedule = made.of("gpt-5-mini")
        for _ in range(50):
            watch = schedule.watch(NOW)
            schedule.ended(watch, NOW + ended_after_s, took_s=ended_after_s)
    return made


def scale_s(made: Schedules, model: str = "gpt-5-mini") -> float:
    """How long responses of a model take, as far as is known."""
    schedule = made.of(model)
    schedule.watch(NOW)
    return 1 / schedule.endings_per_s


@pytest.mark.anyio
async def test_latencies_of_a_model_come_back(rig: Rig) -> None:
    slow = schedules(ended_after_s=600.0)
    await learned(rig, Snapshot("latency:job", slow.dump, slow.load)).save()
    later = schedules()
    await learned(rig, Snapshot("latency:job", later.dump, later.load)).recall()
    assert scale_s(later) == pytest.approx(600, rel=0.25)
    assert scale_s(later, "another-model") < 60


def test_a_model_that_this_run_does_not_use_is_kept() -> None:
    kept = schedules()
    kept.load(schedules(ended_after_s=600.0).dump())
    kept.of("gpt-5")
    again = schedules()
    again.load(kept.dump())
    assert scale_s(again) == pytest.approx(600, rel=0.25)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"null", b'{"gpt-5-mini": "x"}', b'{"gpt-5-mini": {}}'])
def test_a_damaged_snapshot_is_a_cold_start(damaged: bytes) -> None:
    made = schedules()
    made.load(damaged)
    assert scale_s(made) == scale_s(schedules())


@pytest.mark.anyio
async def test_limits_come_back(rig: Rig) -> None:
    pools = allowances(per_minute=100).pools
    pools.pool("gpt-5-mini").rate_limited(NOW, NOW, retry_after_s=30.0, limits=None, slow_down=False)
    await learned(rig, Snapshot("limits:x", pools.snapshot, pools.restore)).save()
    later = allowances(per_minute=100).pools
    await learned(rig, Snapshot("limits:x", later.snapshot, later.restore)).recall()
    assert later.pool("gpt-5-mini").as_values() == pools.pool("gpt-5-mini").as_values()
