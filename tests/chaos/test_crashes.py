"""A run that is killed again and again resumes each time: it loses nothing, and pays hardly anything twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .conftest import Note
from .crashing import STAGES, SUBJECTS, TURNS, WHEN, place_of
from .station import Provider, Station

# Points that are reached once, at the start of a run or at its end, in this order; and between them, repeatedly.
_FIRST = (
    "before:migrate",
    "before:schema",
    "after:migrate",
    "before:create_run",
    "after:create_run",
    "before:add_rows",
    "after:add_rows",
)
_BETWEEN = tuple(
    f"{when}:{subject}"
    for subject in ("lock", "recover", "claim", "submit", "accept", "release", "poll", "end", "commit")
    for when in WHEN
)
_LAST = (
    "before:remember",
    "after:remember",
    "before:set_run_state",
    "after:set_run_state",
    "before:export",
    "after:export",
)
_LONGEST_START_S = 30.0
_LONGEST_RUN_S = 180.0
_POINT_WAIT_S = 10.0


@dataclass
class KilledRun:
    """One run that is killed repeatedly; ``on_the_wire`` are the attempts that may have been sent and lost."""

    station: Station
    rng: random.Random
    on_the_wire: set[tuple[int, int]] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)

    def kill_at(self, point: str, *, within_s: float) -> None:
        """Runs until a named point is reached, at most ``within_s``; then the process is killed."""
        self.station.launcher, self.station.warm = ("tests.chaos.crashing", point), True
        process = self._begin()
        with suppress(subprocess.TimeoutExpired):
            self._wait_for_start(process)
            process.wait(timeout=within_s)
        process.kill()
        name = point.rpartition(":")[0]
        self._record_kill(process, name if f"crashing at {name}" in self._log.read_text() else "at random")

    def kill_after(self, seconds: float) -> None:
        """Runs for ``seconds`` after the start of the run, then kills the process."""
        self.station.launcher, self.station.warm = ("orchestrator",), False
        process = self._begin()
        self._wait_for_start(process)
        time.sleep(seconds)
        process.kill()
        self._record_kill(process, "at random")

    def finish(self) -> dict[str, Any]:
        """Runs to the end; returns the summary."""
        self.station.launcher, self.station.warm = ("orchestrator",), True
        ended = self.station.run("--output", "results.jsonl")
        assert ended.code == 0, ended.err
        return ended.summary

    @property
    def _log(self) -> Path:
        return self.station.folder / "run.log"

    def _begin(self) -> subprocess.Popen[str]:
        with self._log.open("w") as log:
            arguments = self.station.run_arguments("--output", "results.jsonl", "--progress", "plain")
            return self.station.start(*arguments, stdout=log, stderr=log)

    def _wait_for_start(self, process: subprocess.Popen[str]) -> None:
        give_up_at = time.monotonic() + _LONGEST_START_S
        while process.poll() is None and " run=r job=" not in self._log.read_text():
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def _record_kill(self, process: subprocess.Popen[str], cause: str) -> None:
        code = process.wait(timeout=_LONGEST_START_S)
        assert code in (0, -signal.SIGKILL), self._log.read_text()
        if code:
            self.kills[cause] += 1
        self.on_the_wire |= {*self.station.query("SELECT id, number FROM request WHERE state = 'submitting'")}


def killed_run(folder: Path, provider: Provider, *, rows: int, per_minute: int, seed: int) -> KilledRun:
    limits = {"requests_per_minute": per_minute, "polls_per_minute": 60_000, "max_in_flight": 64}
    config = {"provider": {"base_url": f"{provider.address}/v1"}, "limits": limits}
    return KilledRun(Station(folder, rows=rows, config=config, provider=provider), random.Random(seed))


def play(run: KilledRun, points: set[str], *, at_random: int) -> dict[str, Any]:
    """Kills the run at the points, and ``at_random`` times between them in random order; then finishes it."""
    for point in filter(points.__contains__, _FIRST):
        run.kill_at(f"{point}:1", within_s=_POINT_WAIT_S)
    between = [*filter(points.__contains__, _BETWEEN), *[""] * at_random]
    run.rng.shuffle(between)
    for point in between:
        if point:
            nth = 1 if point.endswith((":lock", ":release")) else run.rng.choice((1, 2, 5))
            run.kill_at(f"{point}:{nth}", within_s=_POINT_WAIT_S)
        else:
            run.kill_after(run.rng.uniform(0, 0.8))
    for point in filter(points.__contains__, _LAST):
        run.kill_at(f"{point}:1", within_s=_LONGEST_RUN_S)
    return run.finish()


def check(run: KilledRun, provider: Provider, summary: dict[str, Any], *, rows: int) -> None:
    """Every row is settled once, and the costs of both sides agree."""
    station = run.station
    assert summary["requests"]["succeeded"] == summary["requests"]["total"] == rows
    assert audit(station.database).states == {State.SUCCEEDED: rows}
    exported = [json.loads(line) for line in (station.folder / "results.jsonl").read_text().splitlines()]
    assert [each["key"] for each in exported] == [f"row-{n}" for n in range(rows)]
    ledger, created = provider.ledger(), provider.responses()
    assert ledger["seen_by_client"]["cost_usd"] == summary["cost_usd"]
    stored = {row[0] for row in station.query("SELECT response_id FROM attempt WHERE response_id IS NOT NULL")}
    of_key = Counter(each["key"] for each in created)
    assert len(of_key) == rows
    # Paid twice: at most what was on the wire when the process died. No stored response was ever created again.
    most = 0 if provider.settings.get("idempotency") == "honour" else len(run.on_the_wire)
    assert sum(of_key.values()) - rows <= most
    assert summary["possible_duplicates"] == len(run.on_the_wire)
    assert Counter(each["key"] for each in created if each["id"] in stored) == dict.fromkeys(of_key, 1)


@pytest.mark.parametrize("subject", [*SUBJECTS, *TURNS, *STAGES])
def test_every_step_that_can_crash_exists(subject: str) -> None:
    owner, name = place_of(subject)
    assert callable(getattr(owner, name))


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    settings = {"latency": {"queue": 0.1, "run": {"from_s": 0.2, "to_s": 0.8}}}
    points = {"before:schema", "after:add_rows", "after:claim", "during:submit", "before:accept", "before:commit"}
    with Provider(tmp_path, settings) as provider:
        run = killed_run(tmp_path, provider, rows=120, per_minute=1800, seed=3)
        summary = play(run, points, at_random=2)
        assert run.kills == Counter([*points, "at random", "at random"])
        check(run, provider, summary, rows=120)


@pytest.mark.chaos
@pytest.mark.parametrize("idempotency", ["ignore", "honour"])
def test_killed_at_every_point_and_at_random(tmp_path: Path, note: Note, idempotency: str) -> None:
    settings = {
        "idempotency": idempotency,
        "latency": {"queue": 1, "run": {"from_s": 2, "to_s": 7}},
        "faults": {"rate_limited": 0.1},
    }
    points = {*_FIRST, *_BETWEEN, *_LAST}
    with Provider(tmp_path, settings) as provider:
        run = killed_run(tmp_path, provider, rows=600, per_minute=720, seed=11)
        summary = play(run, points, at_random=20)
        assert {point.rpartition(":")[2] for point in points} == SUBJECTS.keys()
        assert run.kills.keys() == {*points, "at random"}
        assert run.kills.total() >= 50
        created = provider.ledger()["creates"]["accepted"]
        note(
            f"{run.kills.total()} kills, {run.kills['at random']} of them at random; {created} responses for "
            f"600 rows, {len(run.on_the_wire)} attempts were on the wire at a kill"
        )
        check(run, provider, summary, rows=600)
