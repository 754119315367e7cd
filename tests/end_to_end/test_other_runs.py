"""A new run takes what earlier runs of the database left: answers, open responses, and requests in flight."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.end_to_end.rig import Rig
from tests.stores.sqlite.audit import audit

AT = ("--db", "runs.db")
# Twenty answers come at once and the next twenty do not: their responses are open when the run is killed.
SLOW = {"seed": 7, "latency": {"queue": 0, "run": {"from_s": 3, "to_s": 3}}}


def run_as(at: Rig, name: str, *more: str, code: int = 0) -> dict[str, Any]:
    ended = at.call("run", "job.yaml", "--config", "config.yaml", *AT, "--run", name, "--json", *more)
    assert ended.code == code, ended.err
    return ended.summary


def costs(at: Rig) -> Decimal:
    """What all runs of the database together say that they have cost."""
    [(pusd,)] = at.query("SELECT sum(cost_pusd) FROM run_total")
    return Decimal(pusd) / 10**12


def responses(at: Rig) -> int:
    return len(at.ledger_responses())


def kill_halfway(at: Rig, *, rows: int = 50, done: int = 20, open_: int = 20) -> None:
    """Kill a run with SIGKILL when so many of its rows are answered, and so many responses are open."""
    half = "SELECT count(*) FROM request WHERE state = 'submitted'"
    at.config["limits"]["max_in_flight"] = open_
    at.write_config(at.config)
    ended = at.run_until(
        lambda: at.settled() == done and at.query(half) == [(open_,)],
        send=signal.SIGKILL,
    )
    assert ended.code == -signal.SIGKILL
    assert at.settled() == done
    at.config["limits"]["max_in_flight"] = rows
    at.write_config(at.config)


@pytest.fixture
def slow(rig: Callable[..., Rig]) -> Rig:
    return rig(rows=50, job={"reuse": "same-request"}, sandbox=SLOW)


def test_open_responses_of_a_killed_run_are_taken_over(slow: Rig) -> None:
    kill_halfway(slow)
    second = run_as(slow, "second")
    assert second["requests"]["succeeded"] == 50
    assert second["reused"] == 40
    ledger = slow.ledger()
    assert responses(slow) == 50
    assert ledger["duplicates"] == {"while_open": 0, "after_lost_reply": 0, "usable": 0}
    assert costs(slow) == Decimal(ledger["cost_usd"])
    audit(slow.database)
    # The killed run takes the answers, and asks for nothing.
    assert slow.run().summary["requests"]["succeeded"] == 50
    assert responses(slow) == 50
    assert costs(slow) == Decimal(slow.ledger()["cost_usd"])
    audit(slow.database)
