"""The main job from end to end: rows in, background responses, results and costs out."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

from .rig import Rig

MakeRig = Callable[..., Rig]


def test_every_row_is_answered_and_the_bill_is_the_ledgers(rig: MakeRig) -> None:
    at = rig(rows=80)
    ended = at.run("--output", "out.jsonl")
    assert ended.code == 0, ended.err
    assert ended.summary["state"] == "finished"
    assert ended.summary["requests"]["succeeded"] == 80
    results = [json.loads(line) for line in (at.folder / "out.jsonl").read_text().splitlines()]
    assert [each["key"] for each in results] == [f"row-{n}" for n in range(80)]
    assert all(each["output_text"] and each["error"] is None for each in results)
    ledger = at.ledger()
    assert ledger["creates"]["accepted"] == 80
    assert ledger["cost_usd"] == ended.summary["cost_usd"]
    assert ledger["usage"] == ended.summary["usage"]
    assert sum(Decimal(each["cost_usd"]) for each in results) == Decimal(ended.summary["cost_usd"])


def test_a_finished_run_sends_nothing_when_it_is_called_again(rig: MakeRig) -> None:
    at = rig(rows=20)
    first = at.run()
    again = at.run()
    assert (first.code, again.code) == (0, 0)
    assert again.summary["cost_usd"] == first.summary["cost_usd"]
    assert at.ledger()["creates"]["calls"] == 20


def test_killed_in_the_middle_it_resumes_where_it_was(rig: MakeRig) -> None:
    at = rig(rows=300, sandbox={"latency": {"queue": 0.1, "run": {"from_s": 0.2, "to_s": 0.8}}})
    killed = at.run_until(lambda: at.settled() > 40, send=signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    stored = {row[0] for row in at.query("SELECT response_id FROM attempt WHERE response_id IS NOT NULL")}
    in_doubt = at.settled("'submitting'")
    resumed = at.run()
    assert resumed.code == 0, resumed.err
    assert resumed.summary["requests"]["succeeded"] == 300
    created = at.ledger_responses()
    by_key = Counter(each["key"] for each in created)
    keys_with_stored_id = {each["key"] for each in created if each["id"] in stored}
    assert len(keys_with_stored_id) == len(stored)
    # A response whose id was on disk was never created again; what was on the wire could not be known.
    assert all(by_key[key] == 1 for key in keys_with_stored_id)
    assert sum(by_key.values()) - len(by_key) <= in_doubt
    assert resumed.summary["possible_duplicates"] == in_doubt
    ledger = at.ledger()
    assert ledger["seen_by_client"]["cost_usd"] == resumed.summary["cost_usd"]


def test_a_server_that_honours_idempotency_keys_is_never_paid_twice(rig: MakeRig) -> None:
    at = rig(
        rows=200, sandbox={"idempotency": "honour", "latency": {"queue": 0, "run": {"from_s": 0.1, "to_s": 0.4}}}
    )
    for wanted in (10, 60, 110):
        at.run_until(lambda wanted=wanted: at.settled() > wanted, send=signal.SIGKILL)  # type: ignore[misc]
    resumed = at.run()
    assert resumed.code == 0, resumed.err
    assert Counter(Counter(each["key"] for each in at.ledger_responses()).values()) == {1: 200}


def test_an_interrupt_stops_within_seconds_and_says_how_to_resume(rig: MakeRig) -> None:
    at = rig(rows=200, sandbox={"latency": {"queue": 0.5, "run": 2}})
    interrupted = at.run_until(lambda: at.settled("'submitted'") > 60, send=signal.SIGINT)
    assert interrupted.code == 130
    assert "--run r" in interrupted.err
    assert interrupted.summary["state"] == "paused"
    assert interrupted.summary["requests"]["submitting"] == 0
    resumed = at.run()
    assert resumed.code == 0, resumed.err
    assert at.ledger()["creates"]["accepted"] == 200


def test_a_second_process_on_the_same_run_is_refused(rig: MakeRig) -> None:
    at = rig(rows=30, sandbox={"latency": {"queue": 0.5, "run": 600}})
    first = at.start(*at.run_arguments(), python=sys.executable)
    while at.settled("'submitted'") < 5:
        assert first.poll() is None
        time.sleep(0.02)
    second = at.run()
    assert second.code == 6
    assert str(first.pid) in second.err
    first.terminate()
    assert at.end(first).code == 143


def test_rows_that_are_retried_are_sent_again_and_their_history_is_kept(rig: MakeRig) -> None:
    at = rig(rows=20, sandbox={"faults": {"content_filter": 0.5}})
    first = at.run()
    failed = first.summary["requests"]["failed"]
    assert first.code == 3
    assert failed > 0
    assert at.call("retry", "r", "--db", "runs.db").code == 0
    again = at.run()
    assert again.summary["attempts"] == 20 + failed
    assert again.summary["requests"]["total"] == 20
    assert at.ledger()["seen_by_client"]["cost_usd"] == again.summary["cost_usd"]


def test_cancel_reaches_the_provider(rig: MakeRig) -> None:
    at = rig(rows=40, sandbox={"latency": {"queue": 1, "run": 600}})
    at.run_until(lambda: at.settled("'submitted'") >= 30, send=signal.SIGTERM)
    cancelled = at.call("cancel", "r", "--config", "config.yaml", "--db", "runs.db", "--json")
    assert cancelled.summary["state"] == "cancelled", cancelled.err
    assert cancelled.summary["requests"]["cancelled"] == 40
    assert cancelled.summary["cost_unknown"] >= 30
    ledger = at.ledger()
    assert ledger["cancels"]["calls"] >= 30
    assert set(ledger["responses"]) == {"cancelled"}


def test_the_database_is_whole_after_all_of_it(rig: MakeRig) -> None:
    at = rig(rows=50)
    at.run_until(lambda: at.settled() > 5, send=signal.SIGKILL)
    at.run()
    with sqlite3.connect(at.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
