"""Rows that ask the same are asked once, an earlier run's answers are taken over, and prompts are cached."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.rig import Rig
from tests.stores.sqlite.audit import audit

REQUEST = {"model": "gpt-5-mini", "input": "Sum up: {{ text }}", "max_output_tokens": 400}
AT = ("--db", "runs.db")


def distinct(count: int, *, times: int = 1) -> list[dict[str, str]]:
    """So many texts, each so many times, with the equal ones far apart."""
    return [{"id": f"{turn}/{n}", "text": f"Report {n} was read."} for turn in range(times) for n in range(count)]


def exported(at: Rig, run: str = "r") -> list[dict[str, Any]]:
    return [json.loads(line) for line in at.call("export", run, *AT).out.splitlines()]


def creates(at: Rig) -> int:
    return len(at.ledger_responses())


def run_as(at: Rig, name: str, *more: str) -> dict[str, Any]:
    ended = at.call("run", "job.yaml", "--config", "config.yaml", *AT, "--run", name, "--json", *more)
    assert ended.code == 0, ended.err
    return ended.summary


@pytest.mark.parametrize("rows", [1_500, pytest.param(10_000, marks=pytest.mark.long)])
def test_two_in_five_rows_are_not_asked_again(rig: Callable[..., Rig], rows: int) -> None:
    asked, again = rows * 3 // 5, rows * 2 // 5
    at = rig(
        job={"request": REQUEST},
        sandbox={"latency": {"queue": 0, "run": {"from_s": 0.05, "to_s": 0.3}}},
        config={"limits": {"max_in_flight": 600, "requests_per_minute": 120_000, "polls_per_minute": 240_000}},
    )
    repeated = [{"id": f"again/{n}", "text": f"Report {(n * 7) % asked} was read."} for n in range(again)]
    at.write_rows(distinct(asked) + repeated)
    ended = at.run()
    assert ended.code == 0, ended.err
    summary = ended.summary
    assert (summary["requests"]["succeeded"], summary["attempts"]) == (rows, asked)
    assert at.query("SELECT count(*) FROM request WHERE answered_by IS NOT NULL") == [(again,)]
    ledger = at.ledger()
    assert (ledger["creates"]["accepted"], ledger["cost_usd"]) == (asked, summary["cost_usd"])
    records = exported(at)
    answers = {record["key"]: record["output_text"] for record in records if not record["reused"]}
    assert len(answers) == asked
    for n in range(again):
        shared = records[asked + n]
        assert (shared["key"], shared["reused"], shared["cost_usd"]) == (f"again/{n}", True, "0")
        assert shared["output_text"] == answers[f"0/{(n * 7) % asked}"]
    audit(at.database)


@pytest.mark.long
def test_each_is_asked_where_the_job_says_so(rig: Callable[..., Rig]) -> None:
    at = rig(job={"request": REQUEST, "duplicates": "each", "reuse": "same-request"})
    at.write_rows(distinct(4, times=3))
    assert run_as(at, "r")["attempts"] == 12
    assert creates(at) == 12
    assert [record["reused"] for record in exported(at)] == [False] * 12


@pytest.mark.long
def test_those_that_wait_already_share_although_each_is_asked_from_now_on(rig: Callable[..., Rig]) -> None:
    at = rig(job={"request": REQUEST}, sandbox={"latency": {"queue": 0, "run": 2}})
    at.write_rows(distinct(1, times=4))
    blocked = "SELECT count(*) FROM request WHERE state = 'blocked'"
    left = at.run_until(lambda: at.query(blocked) == [(3,)], send=signal.SIGINT)
    assert left.code == 130
    assert "3 blocked" in at.call("status", "r", *AT).out
    summary = run_as(at, "r", "--set", "duplicates=each")
    assert (summary["attempts"], summary["requests"]["succeeded"]) == (1, 4)


def test_duplicates_share_a_failure_and_are_retried_together(rig: Callable[..., Rig]) -> None:
    at = rig(job={"request": {**REQUEST, "model": "sandbox-refusal"}})
    at.write_rows(distinct(2, times=3))
    ended = at.run()
    assert (ended.code, ended.summary["attempts"]) == (3, 2)
    assert Counter(record["error"]["code"] for record in exported(at)) == {"refusal": 6}
    assert json.loads(at.call("retry", "r", *AT, "--json").out)["requeued"] == 6
    assert at.run().summary["attempts"] == 4
    audit(at.database)


@pytest.mark.long
def test_a_raised_limit_is_not_another_question(rig: Callable[..., Rig]) -> None:
    at = rig(
        job={"request": REQUEST, "on_incomplete": {"raise_max_output_tokens_to": 900}},
        sandbox={"faults": {"incomplete": 1, "calm_after": 1}},
        config={"limits": {"max_in_flight": 1}},
    )
    at.write_rows(distinct(1, times=600))
    summary = run_as(at, "r")
    assert (summary["attempts"], summary["requests"]["succeeded"]) == (2, 600)


@pytest.mark.long
def test_an_earlier_run_answers_where_the_job_allows_it(rig: Callable[..., Rig]) -> None:
    at = rig(job={"request": REQUEST})
    at.write_rows(distinct(4, times=2))
    first = run_as(at, "first")
    assert first["attempts"] == 4
    # Not unless it is asked for; and then also where other rows are new.
    assert run_as(at, "second")["attempts"] == 4
    at.write_job({**at.job, "reuse": "same-request"})
    at.write_rows(distinct(6))
    third = run_as(at, "third")
    assert (third["attempts"], third["requests"]["succeeded"]) == (2, 6)
    assert [record["reused"] for record in exported(at, "third")] == [True] * 4 + [False] * 2
    assert sum(float(record["cost_usd"]) for record in exported(at, "third")) == pytest.approx(
        float(third["cost_usd"])
    )
    time.sleep(1.1)
    at.write_job({**at.job, "reuse_max_age": "1s"})
    assert run_as(at, "fourth")["attempts"] == 6
    # However many there are, and although nothing is sent at all.
    at.write_job({**at.job, "reuse_max_age": "1h"})
    at.write_rows(distinct(4, times=150))
    fifth = run_as(at, "fifth")
    assert (fifth["attempts"], fifth["requests"]["succeeded"]) == (0, 600)
    assert creates(at) == 4 + 4 + 2 + 6
    audit(at.database)


def test_a_shared_answer_is_marked_in_every_format_and_by_show(rig: Callable[..., Rig]) -> None:
    at = rig(job={"request": REQUEST})
    at.write_rows(distinct(1, times=2))
    run_as(at, "r")
    first, second = exported(at)
    assert (first["reused"], second["reused"]) == (False, True)
    assert second["output_text"] == first["output_text"]
    assert (second["attempts"], second["cost_usd"], second["response_id"]) == (0, "0", first["response_id"])
    lines = list(csv.DictReader(io.StringIO(at.call("export", "r", *AT, "--format", "csv").out)))
    assert [line["reused"] for line in lines] == ["false", "true"]
    batch = at.call("export", "r", *AT, "--format", "openai-batch").out.splitlines()
    bodies = [json.loads(line)["response"]["body"]["id"] for line in batch]
    assert bodies == [first["response_id"]] * 2
    assert at.call("export", "r", *AT, "-o", "results.parquet").code == 0
    shown = json.loads(at.call("show", "r", "1/0", *AT, "--json").out)
    whose = shown["answered_by"]
    assert (shown["attempts"], whose["response_id"]) == ([], first["response_id"])
    assert (whose["run"], whose["key"]) == ("r", "0/0")
    text = at.call("show", "r", "1/0", *AT).out
    assert "answered by the response to 0/0 of the run r, a duplicate of this request" in text
    assert first["output_text"].split(".")[0] in text


def test_requests_that_begin_alike_have_one_cache_key(rig: Callable[..., Rig]) -> None:
    instructions = "You are a clerk who sums up reports, one at a time. " * 150
    at = rig(rows=8, job={"request": {**REQUEST, "instructions": instructions}, "prompt_cache": {"warm": True}})
    summary = run_as(at, "r")
    body = json.loads(at.call("show", "r", "row-0", *AT, "--json").out)
    keys = {each["response"]["prompt_cache_key"] for each in body["attempts"]}
    assert len(keys) == 1
    assert keys.pop().startswith("prefix-")
    # The first went ahead alone; each of the others found its beginning in the cache.
    assert at.query("SELECT count(*) FROM charge WHERE cached_tokens > 0") == [(7,)]
    [(ended, next_sent)] = at.query(
        "SELECT min(ended_at), (SELECT sent_at FROM attempt ORDER BY sent_at LIMIT 1 OFFSET 1) FROM attempt"
    )
    assert ended <= next_sent
    assert summary["cost_usd"] == at.ledger()["cost_usd"]
