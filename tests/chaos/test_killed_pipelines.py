"""A pipeline that is killed again and again loses no row, makes none twice, and asks no group early."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.core.states import State
from tests.reliability.naive_pipeline import STAGES, Stored, naive, some_rows, three_stages
from tests.stores.sqlite.audit import audit

from .conftest import Note
from .station import KEY, Provider, Station
from .test_crashes import KilledRun

# Each model is asked by one stage, so that the sandbox's ledger distinguishes the stages.
MODELS = {"facts": "gpt-5-nano", "article": "gpt-5-mini", "digest": "gpt-5"}
# In the order in which a run can reach them again and again; the end of a stage is reached once for each stage.
POINTS = [
    "after:end:1",
    "before:pass_on:1",
    "during:pass_on:2",
    "after:pass_on:1",
    "before:passing_on:1",
    "after:passing_on:1",
    "before:new_rows:2",
    "after:end:4",
    "before:fill_group:1",
    "during:fill_group:2",
    "after:fill_group:1",
    "before:filling:1",
    "after:filling:3",
    "during:end:2",
    "before:new_members:2",
    "after:new_members:2",
    "after:new_rows:2",
    "during:passing_on:2",
    "after:pass_on:3",
    "after:end:7",
    "before:seal_stage:1",
    "during:seal_stage:1",
    "after:seal_stage:1",
    "before:seal:1",
    "after:seal:2",
]
_POINT_WAIT_S = 12.0
_GROUPED_EARLY = """
    SELECT 1 FROM attempt JOIN member ON member.group_id = attempt.request_id
    JOIN request ON request.id = member.request_id WHERE attempt.sent_at < request.settled_at
"""
_ANSWERED = """
    SELECT stage, key, response_id FROM attempt JOIN request ON request.id = request_id
    WHERE state = 'succeeded' AND response_id IS NOT NULL
"""
_COST_BY_STAGE = """
    SELECT stage, sum(cost_pusd) FROM charge JOIN attempt ON attempt.id = attempt_id
    JOIN request ON request.id = attempt.request_id GROUP BY stage
"""


def pipeline(rows: int, folder: Path, provider: Provider, *, seed: int, **digest: Any) -> KilledRun:
    stages = three_stages("fail", **digest)
    for name, model in MODELS.items():
        stages[name]["request"] |= {"model": model}
    config = {
        "provider": {"base_url": f"{provider.address}/v1"},
        "limits": {"requests_per_minute": 1_200, "polls_per_minute": 60_000, "max_in_flight": 16},
    }
    job = {"name": "killed", "input": {"path": "rows.jsonl", "key": "id"}, "stages": stages}
    station = Station(folder, config=config, provider=provider)
    station.write_job(job)
    station.write_rows(some_rows(random.Random(seed), rows))
    return KilledRun(station, random.Random(seed))


def texts_asked(provider: Provider, run: KilledRun) -> dict[str, Counter[str]]:
    """What the provider has received, by stage: keys with texts."""
    found = run.station.query(_ANSWERED)
    asked: dict[str, Counter[str]] = defaultdict(Counter)
    with httpx.Client(base_url=f"{provider.address}/v1", headers={"Authorization": f"Bearer {KEY}"}) as http:
        for stage, key, response_id in found:
            [item] = http.get(f"/responses/{response_id}/input_items").json()["data"]
            asked[stage][f"{key}: {item['content'][0]['text']}"] += 1
    return asked


def check(run: KilledRun, provider: Provider, summary: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    stored, station = Stored.read(run.station.database), run.station
    wanted = naive(rows, stored)
    assert audit(station.database).states == {State.SUCCEEDED: summary["requests"]["total"]}
    received = texts_asked(provider, run)
    for stage in STAGES:
        assert stored.asked(stage) == wanted[stage], stage
        assert received[stage] == wanted[stage], stage
    assert station.query(_GROUPED_EARLY) == []
    billed: Counter[str] = Counter()
    for each in provider.responses():
        billed[each["model"].partition("-2025")[0]] += each["cost_pusd"]
    assert {MODELS[stage]: cost for stage, cost in station.query(_COST_BY_STAGE)} == billed
    assert len(provider.responses()) == summary["requests"]["total"]


def play(folder: Path, points: Sequence[str], *, rows: int, seed: int) -> Counter[str]:
    settings = {"idempotency": "honour", "latency": {"queue": 0.05, "run": {"from_s": 0.1, "to_s": 0.6}}}
    with Provider(folder, settings) as provider:
        run = pipeline(rows, folder, provider, seed=seed)
        for point in points:
            run.kill_at(point, within_s=_POINT_WAIT_S)
        check(run, provider, run.finish(), some_rows(random.Random(seed), rows))
        return run.kills


def test_two_kills_between_stages_lose_nothing(tmp_path: Path) -> None:
    points = ["after:passing_on:1", "before:seal_stage:1"]
    assert play(tmp_path, points, rows=6, seed=1) == Counter(["after:passing_on", "before:seal_stage"])


@pytest.mark.long
def test_twenty_five_kills_between_stages_lose_nothing(tmp_path: Path, note: Note) -> None:
    kills = play(tmp_path, POINTS, rows=120, seed=2)
    note(f"{kills.total()} kills: {dict(kills)}")
    assert kills.total() == 25
    assert kills == Counter(point.rpartition(":")[0] for point in POINTS)
