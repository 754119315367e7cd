"""A run that is killed during tool loops, chains and shared answers gets the same results as one that is not."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from tests.end_to_end.tooling import calls_noted, tool_job, write_handlers
from tests.stores.sqlite.audit import audit

from .crashing import TURNS, WHEN
from .station import Provider, Station
from .test_crashes import KilledRun

# A repeated create returns the same response, so costs are equal to the digit.
SETTINGS = {"idempotency": "honour", "tools": {"rounds": 2, "calls": 2}}
CALLS = """
    SELECT key, name, arguments, output FROM tool_call JOIN attempt ON attempt.id = attempt_id
    JOIN request ON request.id = request_id ORDER BY attempt_id, place
"""
POINT_WAIT_S = 8.0


@dataclass
class KilledTalk(KilledRun):
    """A run whose rows take several turns; ``repeatable`` counts calls that may run again after a kill."""

    repeatable: int = 0
    lost: int = 0
    noted: Counter[tuple[str, str]] = field(default_factory=Counter)
    stored: Counter[tuple[str, str]] = field(default_factory=Counter)

    def kill(self, point: str | None) -> None:
        """Kills the run at a named point or at random, and counts what its handlers did."""
        if point is None:
            self.kill_after(self.rng.uniform(0, 2.5))
        else:
            self.kill_at(point, within_s=POINT_WAIT_S)
        self.lost += self.count_lost_calls()
        waiting = self.station.query("SELECT count(*) FROM request WHERE state = 'acting'")
        self.repeatable += 2 * (waiting[0][0] if waiting else 0)

    def count_lost_calls(self) -> int:
        """The calls since the last count whose result is not on disk; every stored result has its call."""
        noted, stored = calls_noted(self.station.folder), self.calls_stored()
        made, saved = noted - self.noted, stored - self.stored
        assert saved <= made
        self.noted, self.stored = noted, stored
        return (made - saved).total()

    def calls_stored(self) -> Counter[tuple[str, str]]:
        rows = self.station.query(CALLS)
        return Counter((name, json.dumps(json.loads(given), sort_keys=True)) for _, name, given, _ in rows)


def begin(
    folder: Path, provider: Provider, job: dict[str, Any], rows: list[dict[str, Any]], *, seed: int
) -> KilledTalk:
    folder.mkdir(exist_ok=True)
    station = Station(folder, job=job, provider=provider)
    station.write_rows(rows)
    write_handlers(folder, seconds=0.02)
    return KilledTalk(station, random.Random(seed))


def outcome(talk: KilledTalk) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """The answers and the results of tools, by row."""
    lines = (talk.station.folder / "results.jsonl").read_text().splitlines()
    results: dict[str, list[Any]] = {}
    for key, *call in talk.station.query(CALLS):
        results.setdefault(key, []).append(call)
    return {record["key"]: record["output_text"] for record in map(json.loads, lines)}, results


def check(
    folder: Path,
    job: dict[str, Any],
    rows: list[dict[str, Any]],
    kills: Sequence[str | None],
    *,
    seed: int,
    run_s: float = 0.3,
) -> Counter[str]:
    """Runs the job with kills and without, and compares; returns the kills. A response takes up to ``run_s``."""
    latency = {"queue": 0.02, "run": {"from_s": run_s / 4, "to_s": run_s}}
    with Provider(folder, SETTINGS | {"latency": latency}) as provider:
        undisturbed = begin(folder / "undisturbed", provider, job, rows, seed=seed)
        undisturbed.finish()
        expected_creates = len(provider.responses())
        cost_before = _cost(provider)
        talk = begin(folder / "killed", provider, job, rows, seed=seed)
        for point in kills:
            talk.kill(point)
        summary = talk.finish()
        assert outcome(talk) == outcome(undisturbed)
        # After the last kill, each call ran once and was stored; before, some may have run again.
        assert talk.count_lost_calls() == 0
        assert talk.lost <= talk.repeatable
        assert audit(talk.station.database).states == {State.SUCCEEDED: len(rows)}
        assert _pusd(summary["cost_usd"]) == _cost(provider) - cost_before
        assert len(provider.responses()) == 2 * expected_creates
        return talk.kills


def _cost(provider: Provider) -> int:
    return _pusd(provider.ledger()["cost_usd"])


def _pusd(usd: str) -> int:
    return round(float(usd) * 10**12)


def rows_of_talks(count: int, *, each: int = 1, turns: int = 1) -> list[dict[str, Any]]:
    """Rows whose years differ, so that each call names its row; ``each`` is how often every row occurs."""
    return [
        {"id": f"{again}/{n}/{turn}", "talk": f"talk-{n}", "turn": turn, "text": f"Question {turn} on {1800 + n}."}
        for again in range(each)
        for turn in range(turns)
        for n in range(count)
    ]


def chain(mode: str) -> dict[str, Any]:
    return {"chain": {"by": "talk", "order": "turn", "mode": mode}}


@pytest.mark.long
def test_a_few_kills_in_tool_loops(tmp_path: Path) -> None:
    points = ["after:add_tool_call:3", "during:leave:2", "before:run_tools:1"]
    kills = check(tmp_path, tool_job(), rows_of_talks(5), points, seed=1)
    assert kills.keys() == {point.rpartition(":")[0] for point in points}


@pytest.mark.long
def test_a_few_kills_in_chains(tmp_path: Path) -> None:
    points = ["after:new_conversation:1", "after:link_chains:1", "before:end:2"]
    job = {"request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 400}} | chain(
        "conversation"
    )
    kills = check(tmp_path, job, rows_of_talks(3, turns=3), points, seed=2)
    assert kills.keys() == {point.rpartition(":")[0] for point in points}


@pytest.mark.chaos
@pytest.mark.parametrize("mode", [None, "previous_response", "conversation", "stateless"])
def test_killed_ten_times_at_random(tmp_path: Path, mode: str | None) -> None:
    job = tool_job() | (chain(mode) if mode else {})
    rows = rows_of_talks(40, each=2) if mode is None else rows_of_talks(20, turns=3)
    # Long enough for ten kills.
    kills = check(tmp_path, job, rows, [None] * 10, seed=11, run_s=12.0 if mode is None else 4.0)
    assert kills.total() == 10


@pytest.mark.chaos
@pytest.mark.parametrize("subject", TURNS)
def test_killed_before_during_and_after_each_step(tmp_path: Path, subject: str) -> None:
    mode = {"link_chains": "stateless", "keep_conversation": "conversation", "new_conversation": "conversation"}
    job = tool_job() | (chain(mode[subject]) if subject in mode else {})
    rows = rows_of_talks(6, each=2) if subject not in mode else rows_of_talks(4, turns=2)
    points = [f"{when}:{subject}:{nth}" for nth in (1, 2) for when in WHEN]
    kills = check(tmp_path, job, rows, points, seed=5)
    # A step that runs only at the start may be done after two kills.
    assert kills.total() >= 2
