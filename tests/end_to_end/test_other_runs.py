"""A new run takes what earlier runs of the database left: answers, open responses, and requests in flight."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.rig import Rig
from tests.stores.sqlite.audit import audit

AT = ("--db", "runs.db")
REQUEST = {"model": "gpt-5-mini", "input": "Sum up: {{ text }}", "max_output_tokens": 400}
JOB = {"reuse": "same-request", "request": REQUEST}
# The first answers come together and the next do not: their responses are open when the run is killed.
SLOW = {"seed": 7, "latency": {"queue": 0, "run": {"from_s": 1.5, "to_s": 1.5}}}


def rows(first: int, last: int) -> list[dict[str, str]]:
    return [{"id": f"row-{n}", "text": f"Report {n} was read in full."} for n in range(first, last)]


def start_as(at: Rig, name: str, *more: str) -> subprocess.Popen[str]:
    return at.start("run", "job.yaml", "--config", "config.yaml", *AT, "--run", name, "--json", *more)


def run_as(at: Rig, name: str, *more: str) -> dict[str, Any]:
    ended = at.end(start_as(at, name, *more))
    assert ended.code == 0, ended.err
    return ended.summary


def limit_places(at: Rig, places: int) -> None:
    at.write_config({**at.config, "limits": {**at.config["limits"], "max_in_flight": places}})


def costs(at: Rig) -> Decimal:
    """What all runs of the database together say that they have cost, as far as they know."""
    [(pusd,)] = at.query("SELECT sum(cost_pusd) FROM run_total")
    return Decimal(pusd) / 10**12


def check_money(at: Rig, *, responses: int) -> None:
    """So many responses were created, each is paid once, and the runs know it."""
    ledger = at.ledger()
    assert ledger["creates"]["accepted"] == responses
    assert ledger["duplicates"] == {"while_open": 0, "after_lost_reply": 0, "usable": 0}
    assert costs(at) == Decimal(ledger["cost_usd"])
    audit(at.database)


def kill_halfway(at: Rig, *, done: int = 20, open_: int = 20) -> None:
    """Kill a run with SIGKILL when so many of its rows are answered, and so many responses are open."""
    limit_places(at, open_)
    submitted = "SELECT count(*) FROM request WHERE state = 'submitted'"
    ended = at.run_until(
        lambda: at.settled() == done and at.query(submitted) == [(open_,)],
        send=signal.SIGKILL,
    )
    assert ended.code == -signal.SIGKILL
    assert (at.settled(), at.query(submitted)) == (done, [(open_,)])
    limit_places(at, 600)


@pytest.fixture
def slow(rig: Callable[..., Rig]) -> Rig:
    at = rig(job=JOB, sandbox=SLOW)
    at.write_rows(rows(0, 50))
    return at


def test_open_responses_of_a_killed_run_are_taken_over(slow: Rig) -> None:
    kill_halfway(slow)
    second = run_as(slow, "second")
    assert (second["requests"]["succeeded"], second["reused"]) == (50, 40)
    audit(slow.database)
    # The killed run is resumed: it takes the answers and asks for nothing.
    assert slow.run().summary["requests"]["succeeded"] == 50
    check_money(slow, responses=50)


@pytest.mark.long
def test_they_are_taken_over_by_a_run_of_a_grown_input(slow: Rig) -> None:
    kill_halfway(slow)
    slow.write_rows(rows(10, 70))
    assert run_as(slow, "second")["requests"]["succeeded"] == 60
    # Rows 40 to 49 were never sent by the first run, and 50 to 69 are new.
    check_money(slow, responses=70)


@pytest.mark.parametrize("count", [60, pytest.param(2_000, marks=pytest.mark.long)])
def test_two_processes_at_once_send_no_request_twice(rig: Callable[..., Rig], count: int) -> None:
    at = rig(job=JOB, sandbox={"latency": {"queue": 0, "run": {"from_s": 0.1, "to_s": 0.5}}})
    at.write_rows(rows(0, count))
    limit_places(at, 20 if count < 100 else 300)
    started = [start_as(at, name) for name in ("one", "two")]
    for process in started:
        ended = at.end(process)
        assert ended.code == 0, ended.err
        assert ended.summary["requests"]["succeeded"] == count
    check_money(at, responses=count)


@pytest.mark.long
def test_who_waits_for_a_run_that_is_killed_continues_with_its_responses(slow: Rig) -> None:
    limit_places(slow, 20)
    first = start_as(slow, "first")
    while slow.query("SELECT count(*) FROM request WHERE state = 'submitted'") != [(20,)]:
        time.sleep(0.02)
    limit_places(slow, 600)
    second = start_as(slow, "second")
    while not slow.query("SELECT 1 FROM waiting"):
        time.sleep(0.02)
    first.kill()
    slow.end(first)
    ended = slow.end(second)
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 50
    lost = slow.query("SELECT count(*) FROM attempt WHERE possible_duplicate")[0][0]
    if not lost:
        check_money(slow, responses=50)


@pytest.mark.long
def test_a_cancel_of_the_first_run_leaves_the_second_alone(slow: Rig) -> None:
    kill_halfway(slow)
    second = start_as(slow, "second")
    while not slow.query("SELECT 1 FROM attempt WHERE adopted = 1"):
        time.sleep(0.02)
    cancelled = slow.call("cancel", "r", "--config", "config.yaml", *AT)
    assert cancelled.code == 0, cancelled.err
    ended = slow.end(second)
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 50
    check_money(slow, responses=50)
    # What the first run asked for, the second one has the answer of: a purge deletes the provider's copies alone.
    assert slow.call("purge", "r", "--config", "config.yaml", *AT).code == 0
    assert len(slow.call("export", "second", *AT).out.splitlines()) == 50


@pytest.mark.long
def test_a_response_that_is_gone_at_the_provider_is_asked_for_again(rig: Callable[..., Rig]) -> None:
    at = rig(job=JOB, sandbox=SLOW)
    at.write_rows(rows(0, 50))
    kill_halfway(at)
    gone = [response_id for (response_id,) in at.query("SELECT response_id FROM attempt WHERE ended_at IS NULL")]
    at.delete_responses(gone[:5])
    summary = run_as(at, "second")
    assert summary["requests"]["succeeded"] == 50
    assert len(at.ledger_responses()) == 55
    # Their cost is unknown, and that of the run which asked for them.
    assert at.query("SELECT name, cost_unknown FROM run JOIN run_total ON run.id = run_id ORDER BY run.id") == [
        ("r", 5),
        ("second", 0),
    ]
    audit(at.database)


# ── night after night ─────────────────────────────────────────────────────────────────────────────────────────


class Nights:
    """Consecutive nights on one database: each a new run of an input that grows and shrinks; some are killed."""

    def __init__(self, at: Rig, seed: int, rows_at_most: int) -> None:
        self.at = at
        self.rng = random.Random(seed)
        self.most = rows_at_most
        self.asked: set[str] = set()
        # How many creates of a row may have been on the wire when a run was killed.
        self.on_the_wire: Counter[str] = Counter()
        self.kills = self.trials = 0

    def night(self, number: int, *, calm: bool = False) -> None:
        first = self.rng.randrange(self.most // 4)
        last = self.rng.randrange(self.most // 2, self.most + 1)
        wanted = rows(first, last)
        self.at.write_rows(wanted)
        self.asked |= {row["id"] for row in wanted}
        if not calm and self.rng.random() < 0.25:
            self.trials += 1
            run_as(self.at, f"trial-{number}", "--limit", "5")
        process = start_as(self.at, f"night-{number}")
        if calm or self.rng.random() < 0.3:
            ended = self.at.end(process)
            assert ended.code == 0, ended.err
            assert ended.summary["requests"]["succeeded"] == len(wanted)
            return
        self._kill(process, number, self.rng.randrange(1, len(wanted)))

    def _kill(self, process: subprocess.Popen[str], number: int, after: int) -> None:
        """Kill the run as soon as so many of its rows were sent or answered."""
        while process.poll() is None and self._count(number) < after:
            time.sleep(0.01)
        process.kill()
        self.at.end(process)
        self.kills += 1
        sending = self.at.query(
            "SELECT run.name, request.key FROM request JOIN run ON run.id = run_id WHERE request.state = 'submitting'"
        )
        self.on_the_wire.update(key for name, key in sending if name == f"night-{number}")

    def _count(self, number: int) -> int:
        counts = self.at.query(
            "SELECT run.name, count(*) FROM request JOIN run ON run.id = run_id"
            " WHERE request.state <> 'pending' AND request.state <> 'blocked' GROUP BY run.name"
        )
        return sum(count for name, count in counts if name == f"night-{number}")

    def resume_all(self) -> int:
        """Finish every run that was killed after its rows were read; returns how many."""
        killed = self.at.query("SELECT name FROM run WHERE state = 'active' AND planned_complete ORDER BY id")
        for (name,) in killed:
            ended = self.at.call("resume", name, "--config", "config.yaml", *AT)
            assert ended.code == 0, ended.err
        return len(killed)

    def check(self) -> None:
        created = Counter(each["key"] for each in self.at.ledger_responses())
        assert created.keys() <= self.asked
        for key, times in created.items():
            assert times <= 1 + self.on_the_wire[key], key
        known = {response_id for (response_id,) in self.at.query("SELECT response_id FROM attempt")}
        unseen = [each for each in self.at.ledger_responses() if each["id"] not in known]
        assert len(unseen) <= self.on_the_wire.total()
        lost = sum(each["cost_pusd"] or 0 for each in unseen)
        assert costs(self.at) + Decimal(lost) / 10**12 == Decimal(self.at.ledger()["cost_usd"])
        audit(self.at.database)


@pytest.mark.parametrize(
    ("nights", "most"),
    [(2, 16), pytest.param(20, 120, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])],
)
def test_consecutive_nights_pay_for_nothing_twice(rig: Callable[..., Rig], nights: int, most: int) -> None:
    at = rig(job=JOB, sandbox={"latency": {"queue": 0, "run": {"from_s": 0.1, "to_s": 1.0}}})
    limit_places(at, most // 4)
    played = Nights(at, seed=5, rows_at_most=most)
    for number in range(nights):
        played.night(number)
    played.night(nights, calm=True)
    resumed = played.resume_all()
    played.check()
    print(  # noqa: T201  # pytest shows it
        f"{nights + 1} nights, {played.kills} kills, {resumed} resumed at the end, {played.trials} trials:"
        f" {len(played.asked)} different requests, {len(at.ledger_responses())} responses,"
        f" {played.on_the_wire.total()} creates on the wire at a kill"
    )
