"""Receivers of the config are notified once of each end, whatever happens to the process."""

from __future__ import annotations

import base64
import json
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.notify.receiver import receiving

from .rig import Ended, Rig

CANARY = "CANARY-in-a-row"
EVENTS = ("finished", "failed", "halted", "cancelled", "late", "stalled", "budget_80", "budget_100")


def a_rig(rig: Callable[..., Rig], *rules: dict[str, Any], **settings: Any) -> Rig:
    at = rig(rows=3, config={"notify": list(rules)}, sandbox={"latency": {"queue": 0, "run": 0.02}}, **settings)
    at.write_rows({"id": f"{CANARY}-{n}", "text": f"{CANARY} number {n}."} for n in range(3))
    return at


def another_run(at: Rig) -> Ended:
    at.write_job({**at.job, "name": "another"})
    return at.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--json")


def test_the_end_of_a_run_is_delivered_once_and_holds_no_text(rig: Callable[..., Rig]) -> None:
    with receiving() as receiver:
        at = a_rig(rig, {"on": ["finished", "failed"], "webhook": receiver.url}, {"ping_env": "CHECK"})
        ended = at.run(env={"CHECK": f"{receiver.url}/check"})
        assert ended.code == 0, ended.err
        assert at.run(env={"CHECK": f"{receiver.url}/check"}).code == 0
    paths = [each.path.partition("?")[0] for each in receiver.deliveries]
    assert sorted(paths) == ["/", "/check/0", "/check/start"]
    [body] = [json.loads(each.body) for each in receiver.deliveries if each.path == "/"]
    assert body["event"] == "finished"
    assert body["subject"].startswith("r finished, 3 of 3 rows, $0.0")
    assert body["requests"] == ended.summary["requests"]
    assert body["state"] == "finished"
    assert not any(CANARY.encode() in each.body for each in receiver.deliveries)
    assert CANARY not in ended.err


def test_failed_rows_and_halts_are_events_of_their_own(rig: Callable[..., Rig]) -> None:
    with receiving() as receiver:
        at = a_rig(rig, {"webhook": receiver.url}, job={"retry": {"attempts": 1}, "budget": {"usd": 0.000001}})
        halted = at.run()
        assert at.run().code == halted.code != 0
    events = [json.loads(each.body) for each in receiver.deliveries]
    # It ends for the same cause at the second try, which is no news.
    assert len(events) == 1, halted.err
    assert events[0]["exit_code"] == halted.code


def test_a_receiver_that_fails_changes_nothing_and_the_next_run_delivers(rig: Callable[..., Rig]) -> None:
    with receiving(500, 500, 500) as receiver:
        at = a_rig(rig, {"on": ["finished"], "webhook": receiver.url})
        ended = at.run()
        assert ended.code == 0
        assert "was not notified: HTTP 500" in ended.err
        assert another_run(at).code == 0
    ids = [each.headers["webhook-id"] for each in receiver.deliveries]
    assert ids[:4] == [ids[0]] * 4
    assert len(set(ids)) == 2


def test_a_process_killed_before_the_delivery_leaves_it_to_the_next(rig: Callable[..., Rig]) -> None:
    with receiving(0) as receiver:
        at = a_rig(rig, {"on": ["finished"], "webhook": receiver.url})
        at.run_until(receiver.arrived.is_set, send=signal.SIGKILL)
        assert at.query("SELECT state FROM run") == [("finished",)]
        # The killed process holds the notice no longer.
        with closing(sqlite3.connect(at.database)) as connection:
            connection.execute("UPDATE notice SET taken_until = 0")
            connection.commit()
        assert another_run(at).code == 0
    ids = [each.headers["webhook-id"] for each in receiver.deliveries]
    assert len(ids) == 3
    assert len(set(ids)) == 2


def test_the_command_tries_each_receiver(rig: Callable[..., Rig]) -> None:
    with receiving(200, 503) as receiver:
        at = a_rig(rig, {"webhook": receiver.url}, {"webhook": f"{receiver.url}/other"}, {"ping_env": "UNSET"})
        ended = at.call("notify", "test", "--config", "config.yaml", "--json")
    assert ended.code == 2
    assert [each["error"] for each in json.loads(ended.out)] == [
        None,
        "HTTP 503",
        "the environment variable UNSET is not set",
    ]
    at.write_config({"provider": {"sandbox": {}}})
    assert "names no receiver" in at.call("notify", "test", "--config", "config.yaml").err


def test_the_use_of_a_budget_is_announced_once(rig: Callable[..., Rig]) -> None:
    with receiving() as receiver:
        rule = {"on": ["budget_80", "budget_100", "halted"], "webhook": receiver.url}
        at = rig(rows=60, config={"notify": [rule]}, job={"budget": {"usd": 0.01}})
        assert at.run().code == 4
        # Resumed under the same budget, it halts again: that is no news either.
        assert at.run().code == 4
    bodies = [json.loads(each.body) for each in receiver.deliveries]
    assert sorted(each["event"] for each in bodies) == ["budget_80", "halted"]
    [alert] = [each for each in bodies if each["event"] == "budget_80"]
    assert alert["subject"].endswith(" % of the run's budget is used")
    assert (alert["run"], alert["next"], alert["state"]) == ("r", "orchestrator status r", "active")


def test_no_delivery_and_no_log_holds_what_was_planted(rig: Callable[..., Rig]) -> None:
    planted = {place: f"CANARY-{place}" for place in ("key", "text", "instructions", "metadata", "header", "api")}
    secret = "whsec_" + base64.b64encode(b"CANARY-secret-of-the-hook").decode()
    env = {"HOOK": secret, "OPENAI_API_KEY": f"sk-{planted['api']}", "PYTHONPATH": ""}
    faulty = {"latency": {"queue": 0, "run": 0.02}, "faults": {"refusal": 0.1, "failed_server_error": 0.1}}
    with receiving(500) as receiver:
        write = "import sys; open('kept.jsonl', 'ab').write(sys.stdin.buffer.read())"
        at = rig(
            rows=60,
            config={
                "provider": {"sandbox": faulty, "headers": {"X-Team": planted["header"]}},
                "notify": [
                    {"on": [*EVENTS], "webhook": receiver.url, "secret_env": "HOOK"},
                    {"on": [*EVENTS], "command": [sys.executable, "-c", write]},
                ],
            },
            job={"budget": {"usd": 0.02}},
        )
        at.job["request"] |= {"instructions": planted["instructions"], "metadata": {"team": planted["metadata"]}}
        at.write_job(at.job)
        at.write_rows({"id": f"{planted['key']}-{n}", "text": f"{planted['text']} number {n}."} for n in range(60))
        halted = at.run(env=env)
        at.write_job({**at.job, "name": "another", "budget": {"usd": 5}, "retry": {"attempts": 1}})
        failed = at.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--json", env=env)
        assert (halted.code, failed.code) == (4, 3), failed.err
        delivered = [each.body + repr(each.headers).encode() for each in receiver.deliveries]
    kept = (at.folder / "kept.jsonl").read_bytes()
    seen = {json.loads(each.body)["event"] for each in receiver.deliveries}
    assert seen == {json.loads(line)["event"] for line in kept.replace(b"}{", b"}\n{").splitlines()}
    assert {"budget_80", "halted", "failed"} <= seen
    for text in (kept, *delivered, halted.err.encode(), failed.err.encode()):
        assert b"CANARY" not in text
        assert secret.encode() not in text
