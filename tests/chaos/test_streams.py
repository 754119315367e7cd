"""A run that is killed during streamed responses and uploads gets the same results as one that is not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .station import KEY, Provider, Station
from .test_crashes import KilledRun

# A repeated create returns the same response, so that no row is answered twice.
SETTINGS = {"idempotency": "honour", "latency": {"queue": 0.05, "run": {"from_s": 0.2, "to_s": 1.0}}}
ROWS = 12
STREAMED = {"stream": True}
CONTENT = [
    {"type": "input_text", "text": "What is in number {{ id }}?"},
    {"type": "input_file", "file_id": "{{ report | upload }}"},
]
WITH_FILES = {
    "request": {
        "model": "gpt-5-mini",
        "input": [{"role": "user", "content": CONTENT}],
        "max_output_tokens": 600,
    },
    # The worst case of a file is unknown; with a bound per request, a request in doubt is sent again.
    "budget": {"usd": 5, "usd_per_request": 0.01},
}


def begin(folder: Path, provider: Provider, job: dict[str, Any], *, seed: int) -> KilledRun:
    folder.mkdir()
    # Few at a time, so that the run lasts long enough to be killed.
    limits = {"requests_per_minute": 60_000, "polls_per_minute": 60_000, "max_in_flight": 2}
    config = {"provider": {"base_url": f"{provider.address}/v1"}, "limits": limits}
    station = Station(folder, job=job, config=config, provider=provider)
    for number in range(4):
        (folder / f"report-{number}.txt").write_text(f"Report {number}. " * 40)
    station.write_rows(
        {"id": f"row-{n}", "text": f"Speech {n}.", "report": f"report-{n % 4}.txt"} for n in range(ROWS)
    )
    return KilledRun(station, random.Random(seed))


def answers(run: KilledRun) -> dict[str, str]:
    lines = (run.station.folder / "results.jsonl").read_text().splitlines()
    return {record["key"]: record["output_text"] for record in map(json.loads, lines)}


def check(folder: Path, job: dict[str, Any], *, kills: int, seed: int) -> KilledRun:
    """Runs the job with kills and without, at one provider, and compares."""
    with Provider(folder, SETTINGS) as provider:
        undisturbed = begin(folder / "undisturbed", provider, job, seed=seed)
        undisturbed.finish()
        killed = begin(folder / "killed", provider, job, seed=seed)
        for _ in range(kills):
            killed.kill_after(killed.rng.uniform(0, 1.5))
        killed.finish()
        assert answers(killed) == answers(undisturbed)
        assert audit(killed.station.database).states == {State.SUCCEEDED: ROWS}
        assert len(provider.responses()) == 2 * ROWS
        # Each content has one id, however often the process was killed during its upload.
        [[named]] = killed.station.query("SELECT count(*) FROM upload")
        assert named == (4 if "budget" in job else 0)
        listed = httpx.get(f"{provider.address}/v1/files", headers={"authorization": f"Bearer {KEY}"}, timeout=600)
        assert len(listed.json()["data"]) <= 2 * named + killed.kills.total()
        return killed


@pytest.mark.long
def test_a_few_kills_while_responses_stream(tmp_path: Path) -> None:
    killed = check(tmp_path, STREAMED, kills=2, seed=3)
    events = killed.station.query(
        "SELECT attempt_id, count(*), max(type = 'response.completed') FROM progress_event GROUP BY 1"
    )
    assert len(events) == ROWS


@pytest.mark.chaos
@pytest.mark.parametrize("job", [STREAMED, WITH_FILES, {**WITH_FILES, **STREAMED}])
def test_killed_ten_times_at_random(tmp_path: Path, job: dict[str, Any]) -> None:
    assert check(tmp_path, job, kills=10, seed=17).kills.total() >= 5
