"""A run by batches that is killed again and again: no batch is sent twice, no line is lost, nothing is in doubt."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .conftest import Note
from .crashing import BATCHES, WHEN, place_of
from .station import Provider, Station
from .test_crashes import KilledRun

# In the order of a batch's life; each is reached by every process that sends one or finds one.
_STEPS = ("claim_batch", "upload_batch", "create_batch", "attach_batch", "advance", "settle_lines", "delete_file")
POINTS = [f"{when}:{subject}" for subject in _STEPS for when in WHEN]
FEW = ["during:upload_batch", "during:create_batch", "after:create_batch", "after:settle_lines"]
# A process that was killed while it created a batch leaves one that the next process looks for.
_FOUND = [
    *("during:create_batch", "before:find_batches"),
    *("during:create_batch", "during:find_batches"),
    *("after:create_batch", "after:find_batches"),
]
SANDBOX = {"seed": 3, "latency": {"queue": 0.05, "run": {"from_s": 0.1, "to_s": 0.8}}}


def batched_run(folder: Path, provider: Provider, *, rows: int, lines: int) -> KilledRun:
    batch = {"max_lines": lines, "grace": "3s"}
    job = {"lane": "batch"}
    station = Station(folder, rows=rows, job=job, config={"lanes": {"batch": batch}}, provider=provider)
    return KilledRun(station, random.Random(5))


def check(run: KilledRun, provider: Provider, *, rows: int) -> tuple[int, int]:
    summary = run.finish()
    assert summary["requests"]["succeeded"] == summary["requests"]["total"] == rows
    assert audit(run.station.database).states == {State.SUCCEEDED: rows}
    assert summary["possible_duplicates"] == summary["cost_unknown"] == summary["requests"]["in_doubt"] == 0
    assert summary["reserved_usd"] == "0"
    ledger, created = provider.ledger(), provider.responses()
    assert ledger["cost_usd"] == ledger["seen_by_client"]["cost_usd"] == summary["cost_usd"]
    # Each row was answered once: no line is in two batches at the provider.
    assert set(Counter(each["key"] for each in created).values()) == {1}
    assert len(created) == rows
    known = run.station.query("SELECT batch_id FROM provider_batch WHERE batch_id IS NOT NULL")
    assert len({batch_id for (batch_id,) in known}) == len(known) == ledger["batches"]["calls"]
    left = run.station.query("SELECT count(*) FROM provider_batch WHERE collected_at IS NULL")
    assert left == [(0,)]
    return len(known), sum(run.kills.values())


@pytest.mark.parametrize("subject", BATCHES)
def test_every_point_of_a_batch_is_there(subject: str) -> None:
    owner, name = place_of(subject)
    assert callable(getattr(owner, name))


@pytest.mark.parametrize(
    ("points", "rows"),
    [pytest.param(FEW, 40, id="few"), pytest.param([*_FOUND, *POINTS], 400, marks=pytest.mark.long, id="all")],
)
def test_killed_at_each_step_of_a_batch(tmp_path: Path, points: Sequence[str], rows: int, note: Note) -> None:
    with Provider(tmp_path, SANDBOX) as provider:
        run = batched_run(tmp_path, provider, rows=rows, lines=10)
        for point in points:
            run.kill_at(f"{point}:1", within_s=20)
        batches, kills = check(run, provider, rows=rows)
    note(f"{kills} kills ({dict(run.kills)}), {batches} batches, {rows} rows")
    assert kills == len(points)
