"""Killed at any moment, again and again, a run goes on where it was: nothing lost, and hardly anything paid twice."""

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

from .conftest import Tell
from .crashing import SUBJECTS, WHEN
from .station import Provider, Station

# What comes up once, at the beginning of a run and at its end, in this order; and the rest, again and again between.
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
_PATIENCE_S = 10.0


@dataclass
class Ordeal:
    """One run that is killed over and over; ``on_the_wire`` are the attempts that may have been sent and lost."""

    station: Station
    rng: random.Random
    on_the_wire: set[tuple[int, int]] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)

    def die_at(self, point: str, *, patience_s: float) -> None:
        """Live until a named point is reached; where it does not come up in time, until then."""
        self.station.launcher, self.station.warm = ("tests.chaos.crashing", point), True
        process = self._begin()
        with suppress(subprocess.TimeoutExpired):
            self._wait_for_start(process)
            process.wait(timeout=patience_s)
        process.kill()
        name = point.rpartition(":")[0]
        self._mourn(process, name if f"crashing at {name}" in self._log.read_text() else "at random")

    def die_after(self, seconds: float) -> None:
        """Live for so long from the start of the run on."""
        self.station.launcher, self.station.warm = ("orchestrator",), False
        process = self._begin()
        self._wait_for_start(process)
        time.sleep(seconds)
        process.kill()
        self._mourn(process, "at random")

    def live(self) -> dict[str, Any]:
        """Live to the end, and say what came out."""
        self.station.launcher, self.station.warm = ("orchestrator",), True
        ended = self.station.run("--output", "results.jsonl")
        assert ended.code == 0, ended.err
        return ended.summary

    @property
    def _log(self) -> Path:
        return self.station.folder / "life.log"

    def _begin(self) -> subprocess.Popen[str]:
        with self._log.open("w") as log:
            arguments = self.station.run_arguments("--output", "results.jsonl", "--progress", "plain")
            return self.station.start(*arguments, stdout=log, stderr=log)

    def _wait_for_start(self, process: subprocess.Popen[str]) -> None:
        gives_up_at = time.monotonic() + _LONGEST_START_S
        while process.poll() is None and " run=r job=" not in self._log.read_text():
            assert time.monotonic() < gives_up_at
            time.sleep(0.01)

    def _mourn(self, process: subprocess.Popen[str], cause: str) -> None:
        code = process.wait(timeout=_LONGEST_START_S)
        assert code in (0, -signal.SIGKILL), self._log.read_text()
        if code:
            self.deaths[cause] += 1
        self.on_the_wire |= {*self.station.query("SELECT id, number FROM request WHERE state = 'submitting'")}


def an_ordeal(folder: Path, provider: Provider, *, rows: int, per_minute: int, seed: int) -> Ordeal:
    limits = {"requests_per_minute": per_minute, "polls_per_minute": 60_000, "max_in_flight": 64}
    config = {"provider": {"base_url": f"{provider.address}/v1"}, "limits": limits}
    return Ordeal(Station(folder, rows=rows, config=config, provider=provider), random.Random(seed))


def play(ordeal: Ordeal, points: set[str], *, at_random: int) -> dict[str, Any]:
    """Die at the points, and so many times at random, in between and in any order; then live."""
    for point in filter(points.__contains__, _FIRST):
        ordeal.die_at(f"{point}:1", patience_s=_PATIENCE_S)
    between = [*filter(points.__contains__, _BETWEEN), *[""] * at_random]
    ordeal.rng.shuffle(between)
    for point in between:
        if point:
            nth = 1 if point.endswith((":lock", ":release")) else ordeal.rng.choice((1, 2, 5))
            ordeal.die_at(f"{point}:{nth}", patience_s=_PATIENCE_S)
        else:
            ordeal.die_after(ordeal.rng.uniform(0, 0.8))
    for point in filter(points.__contains__, _LAST):
        ordeal.die_at(f"{point}:1", patience_s=_LONGEST_RUN_S)
    return ordeal.live()


def check(ordeal: Ordeal, provider: Provider, summary: dict[str, Any], *, rows: int) -> None:
    """Every row is settled once, and the books of both sides agree."""
    station = ordeal.station
    assert summary["requests"]["succeeded"] == summary["requests"]["total"] == rows
    assert audit(station.database).states == {State.SUCCEEDED: rows}
    exported = [json.loads(line) for line in (station.folder / "results.jsonl").read_text().splitlines()]
    assert [each["key"] for each in exported] == [f"row-{n}" for n in range(rows)]
    ledger, created = provider.ledger(), provider.responses()
    assert ledger["seen_by_client"]["cost_usd"] == summary["cost_usd"]
    stored = {row[0] for row in station.query("SELECT response_id FROM attempt WHERE response_id IS NOT NULL")}
    of_key = Counter(each["key"] for each in created)
    assert len(of_key) == rows
    # Paid twice: no more than what was on the wire when the process died. What we knew of was never sent again.
    most = 0 if provider.settings.get("idempotency") == "honour" else len(ordeal.on_the_wire)
    assert sum(of_key.values()) - rows <= most
    assert summary["possible_duplicates"] == len(ordeal.on_the_wire)
    assert Counter(each["key"] for each in created if each["id"] in stored) == dict.fromkeys(of_key, 1)


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    settings = {"latency": {"queue": 0.1, "run": {"from_s": 0.2, "to_s": 0.8}}}
    points = {"before:schema", "after:add_rows", "after:claim", "during:submit", "before:accept", "before:commit"}
    with Provider(tmp_path, settings) as provider:
        ordeal = an_ordeal(tmp_path, provider, rows=120, per_minute=1800, seed=3)
        summary = play(ordeal, points, at_random=2)
        assert ordeal.deaths == Counter([*points, "at random", "at random"])
        check(ordeal, provider, summary, rows=120)


@pytest.mark.chaos
@pytest.mark.parametrize("idempotency", ["ignore", "honour"])
def test_killed_at_every_point_and_at_random(tmp_path: Path, tell: Tell, idempotency: str) -> None:
    settings = {
        "idempotency": idempotency,
        "latency": {"queue": 1, "run": {"from_s": 2, "to_s": 7}},
        "faults": {"rate_limited": 0.1},
    }
    points = {*_FIRST, *_BETWEEN, *_LAST}
    with Provider(tmp_path, settings) as provider:
        ordeal = an_ordeal(tmp_path, provider, rows=600, per_minute=720, seed=11)
        summary = play(ordeal, points, at_random=20)
        assert {point.rpartition(":")[2] for point in points} == SUBJECTS.keys()
        assert ordeal.deaths.keys() == {*points, "at random"}
        assert ordeal.deaths.total() >= 50
        created = provider.ledger()["creates"]["accepted"]
        tell(
            f"{ordeal.deaths.total()} kills, {ordeal.deaths['at random']} of them at random; {created} responses for "
            f"600 rows, {len(ordeal.on_the_wire)} attempts were on the wire at a kill"
        )
        check(ordeal, provider, summary, rows=600)
