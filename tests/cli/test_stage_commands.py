"""The commands on a job with stages, as a user types them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ended, write_config

Cli = Callable[..., Ended]

JOB = """\
name: digest
input: {path: rows.jsonl, key: id}
reuse: same-request
stages:
  facts:
    from: input
    expand: {list: "{{ parts }}"}
    request: {model: gpt-5-nano, input: "List the facts of {{ title }}: {{ item }}", max_output_tokens: 200}
  brief:
    from: facts
    group_by: parent
    request:
      model: gpt-5-mini
      input: "Summarise {{ title }}:{% for row in rows %} {{ row.facts }}{% endfor %}"
      max_output_tokens: 200
  digest:
    from: brief
    group_by: section
    request:
      model: gpt-5-mini
      input: "Combine:{% for row in rows %} {{ row.brief }}{% endfor %}"
      max_output_tokens: 200
"""
ON = ("--config", "config.yaml")
RUN = ("run", "job.yaml", *ON, "--progress", "none")
FACTS, BRIEFS, DIGESTS = 6, 3, 2


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    rows = [
        {"id": "one", "title": "the sea", "section": "a", "parts": ["salt", "waves"]},
        {"id": "two", "title": "the sky", "section": "a", "parts": ["clouds"]},
        {"id": "six", "title": "the land", "section": "b", "parts": ["hills", "fields", "roads"]},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "job.yaml").write_text(JOB)
    write_config(tmp_path, run_s="0.01")
    return tmp_path


def printed(cli: Cli, *arguments: str) -> Any:
    ended = cli(*arguments, *ON)
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def lines_of(text: str, word: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.split()[:1] == [word]]


def test_every_command_knows_the_stages_of_a_run(pipeline: Path, cli: Cli) -> None:
    foreseen = printed(cli, "estimate", "job.yaml", "--json")
    assert foreseen["stages"]["facts"]["requests"] == {"low": FACTS, "likely": FACTS, "high": FACTS}
    assert list(foreseen["stages"]) == ["facts", "brief", "digest"]
    assert float(foreseen["worst_case_usd"]) >= float(foreseen["cost_usd"]["high"]) > 0

    ended = cli(*RUN)
    assert ended.code == 0, ended.err
    assert "estimate: 11 requests to gpt-5-mini, gpt-5-nano" in ended.err
    for name, number in (("facts", FACTS), ("brief", BRIEFS), ("digest", DIGESTS)):
        [line] = lines_of(ended.out, name)
        assert line[1] == str(number)
        assert line[3:] == [str(number), "succeeded"]

    status = printed(cli, "status", "--json")
    assert [(name, each["requests"]["succeeded"]) for name, each in status["stages"].items()] == [
        ("facts", FACTS),
        ("brief", BRIEFS),
        ("digest", DIGESTS),
    ]
    by_stage = printed(cli, "costs", "digest-1", "--by", "stage", "--json")
    assert {row["stage"]: row["cost_usd"] for row in by_stage["rows"]} == {
        name: each["cost_usd"] for name, each in status["stages"].items()
    }
    assert by_stage["total"]["cost_usd"] == status["cost_usd"]
    with closing(sqlite3.connect(pipeline / "runs.db")) as database:
        in_sql = database.execute("SELECT stage, requests, succeeded, cost_usd FROM stages WHERE run = 'digest-1'")
        assert sorted(in_sql) == sorted(
            (name, each["requests"]["total"], each["requests"]["succeeded"], each["cost_usd"])
            for name, each in status["stages"].items()
        )
        one_stage = "SELECT key, stage, rows_missing FROM results WHERE key = 'six'"
        assert database.execute(one_stage).fetchall() == [("six", "brief", 0)]
        assert database.execute("SELECT count(*) FROM attempts WHERE stage = 'facts'").fetchone() == (FACTS,)

    shown = printed(cli, "show", "digest-1", "six#2", "--json")
    assert shown["stage"] == "facts"
    assert shown["request"]["metadata"]["orchestrator_attempt"] == "facts/1"
    assert "fields" in shown["request"]["input"]
    assert printed(cli, "show", "digest-1", "six", "--stage", "brief", "--json")["stage"] == "brief"
    missing = cli("show", "digest-1", "six", "--stage", "digest", *ON)
    assert missing.code == 2
    assert "no row with the key 'six' at stage digest" in missing.err
    unknown = cli("show", "digest-1", "six", "--stage", "nope", *ON)
    assert (unknown.code, "its stages: facts, brief, digest" in unknown.err) == (2, True)

    followed = cli("follow", "digest-1", "a", "--stage", "digest", *ON)
    assert followed.code == 0
    assert followed.out.strip()
    assert cli("retry", "digest-1", "--stage", "facts", *ON).out.startswith("nothing of digest-1 matches")

    purged = printed(cli, "purge", "digest-1", "--key", "six", "--stage", "brief", "--json")
    assert purged["deleted"]["responses"] == 1
    assert printed(cli, "purge", "digest-1", "--json")["deleted"]["responses"] == FACTS + BRIEFS + DIGESTS - 1


@pytest.mark.usefixtures("pipeline")
def test_a_run_stops_after_a_stage_and_is_resumed_from_there(cli: Cli) -> None:
    first = cli(*RUN, "--until", "facts")
    assert first.code == 0, first.err
    assert f"estimate: {FACTS} requests to gpt-5-nano" in first.err
    assert "stage facts is answered; later stages were not asked" in first.out
    assert "--until" not in first.err.partition("resume:")[2]
    assert [line[1] for name in ("facts", "brief") for line in lines_of(first.out, name)] == [str(FACTS), "3"]
    second = cli(*RUN, "--until", "brief")
    assert (second.code, lines_of(second.out, "attempts")[0][1]) == (0, str(FACTS + BRIEFS))
    third = cli(*RUN, "--json")
    summary = json.loads(third.out)
    assert (third.code, summary["run"], summary["state"]) == (0, "digest-1", "finished")
    assert summary["attempts"] == FACTS + BRIEFS + DIGESTS
    # Up to the last stage is all of it.
    assert cli(*RUN, "--new", "--until", "digest").code == 0
    assert printed(cli, "status", "--json")["state"] == "finished"


def test_until_names_a_stage_that_asks(pipeline: Path, cli: Cli) -> None:
    wrong = cli(*RUN, "--until", "briefs")
    assert (wrong.code, "its stages that ask: facts, brief, digest" in wrong.err) == (2, True)
    (pipeline / "job.yaml").write_text(
        "name: plain\ninput: {path: rows.jsonl}\nrequest: {model: gpt-5-mini, input: '{{ title }}'}\n"
    )
    without = cli(*RUN, "--until", "facts")
    assert (without.code, "a job without stages has only one" in without.err) == (2, True)
    assert cli("cancel", "x", "--stage", "facts", *ON).code == 2
    assert cli("purge", "x", "--stage", "facts", *ON).code == 2


def test_a_dry_run_says_which_stages_ask_and_what_that_costs(pipeline: Path, cli: Cli) -> None:
    before = cli(*RUN, "--dry-run")
    assert before.code == 0, before.err
    assert "3 rows can be read" in before.out
    assert lines_of(before.out, "facts")[0][1:3] == [str(FACTS), "0"]
    assert '"orchestrator_attempt": "facts/1"' in before.out
    assert cli(*RUN).code == 0
    job = pipeline / "job.yaml"
    job.write_text(job.read_text().replace("Combine:", "Combine well:"))
    after = cli(*RUN, "--dry-run")
    assert lines_of(after.out, "facts")[0][1:3] == ["0", str(FACTS)]
    assert lines_of(after.out, "digest")[0][1:3] == [str(DIGESTS), "0"]
    assert "only digest is asked: the answers of facts, brief are there from earlier runs" in after.out
    stages = json.loads(cli(*RUN, "--dry-run", "--json").out)["stages"]
    assert [(name, each["requests"]["high"], each["reused"]) for name, each in stages.items()] == [
        ("facts", 0, FACTS),
        ("brief", 0, BRIEFS),
        ("digest", DIGESTS, 0),
    ]
    again = json.loads(cli(*RUN, "--json").out)
    assert (again["attempts"], again["reused"]) == (DIGESTS, FACTS + BRIEFS)
    low, high = (float(stages["digest"]["cost_usd"][end]) for end in ("low", "high"))
    assert low <= float(again["cost_usd"]) <= high


def exported(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    ended = cli("export", "digest-1", *arguments, *ON)
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_exports_have_the_stages_that_are_asked_for_in_the_order_of_the_input(pipeline: Path, cli: Cli) -> None:
    (pipeline / "job.yaml").write_text(JOB + "output: {brief: out/briefs.csv, digest: out/digests.jsonl}\n")
    ended = cli(*RUN)
    assert ended.code == 0, ended.err
    assert [line[1:] for line in lines_of(ended.out, "brief")[1:]] == [["out/briefs.csv", "(3", "rows)"]]
    lines = (pipeline / "out/digests.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b"]
    header, *rows = (pipeline / "out/briefs.csv").read_text().splitlines()
    assert header.split(",")[-2:] == ["stage", "rows_missing"]
    assert [row.split(",")[0] for row in rows] == ["one", "two", "six"]
    assert len(exported(cli)) == FACTS + BRIEFS + DIGESTS
    facts = exported(cli, "--stage", "facts")
    assert [each["key"] for each in facts] == ["one#1", "one#2", "two#1", "six#1", "six#2", "six#3"]
    assert {(each["stage"], each["rows_missing"], each["error"]) for each in facts} == {("facts", 0, None)}
    assert cli("export", "digest-1", "--stage", "nope", *ON).code == 2


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("{briefs: x.jsonl}", "is no stage that asks"),
        ("{brief: x.txt}", "must end in"),
        ("{brief: x.jsonl, digest: x.jsonl}", "names one file for two stages"),
        ("{brief: rows.jsonl}", "would overwrite the input"),
    ],
)
def test_outputs_of_stages_are_checked_before_anything_is_sent(
    pipeline: Path, cli: Cli, output: str, complaint: str
) -> None:
    (pipeline / "job.yaml").write_text(JOB + f"output: {output}\n")
    ended = cli(*RUN)
    assert (ended.code, complaint in ended.err) == (2, True), ended.err
    assert not (pipeline / "runs.db").exists()


def test_a_row_that_an_earlier_stage_lost_is_failed_in_a_later_one(pipeline: Path, cli: Cli) -> None:
    (pipeline / "job.yaml").write_text(
        JOB.partition("  brief:")[0].replace("{{ item }}", "{{ item }} {{ title[0] if item != 'salt' else oops[0] }}")
        + "  check: {from: facts, request: {model: gpt-5-mini, input: '{{ facts }}'}}\n"
        + "  last: {from: check, request: {model: gpt-5-mini, input: '{{ check }}'}}\n"
    )
    assert cli(*RUN).code == 3
    last = exported(cli, "--stage", "last")
    assert [each["key"] for each in last] == ["one#1", "one#2", "two#1", "six#1", "six#2", "six#3"]
    assert [each["state"] for each in last] == ["failed", *["succeeded"] * 5]
    assert (last[0]["error"]["code"], last[0]["error"]["stage"]) == ("row_invalid", "facts")
    assert exported(cli, "--stage", "last", "--state", "succeeded") == last[1:]
    assert [each["stage"] for each in exported(cli, "--state", "failed")] == ["facts"]


def test_parts_of_large_groups_are_exported_only_if_they_are_asked_for(pipeline: Path, cli: Cli) -> None:
    rows = [{"id": f"r{n}", "title": "word " * 30, "section": "a", "parts": [f"p{n}"]} for n in range(6)]
    (pipeline / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, _, _ = JOB.rpartition("      max_output_tokens: 200\n")
    (pipeline / "job.yaml").write_text(
        whole.replace("row.brief }}", "row.title }} {{ row.brief }}")
        + "      max_output_tokens: 60\n      reasoning: {effort: minimal}\n"
        + "    on_incomplete: keep\n    max_input_tokens: 400\n"
        + "    merge: {input: 'Merge:{% for row in rows %} {{ row.digest }}{% endfor %}'}\n"
    )
    ended = cli(*RUN)
    assert ended.code == 0, ended.err
    assert [each["key"] for each in exported(cli, "--stage", "digest")] == ["a"]
    parts = [each["key"] for each in exported(cli, "--stage", "digest", "--with-parts")]
    assert parts[0] == "a"
    assert parts[1:3] == ["a/0.0", "a/0.1"]
    assert len(exported(cli, "--with-parts")) - len(exported(cli)) == len(parts) - 1


def test_a_run_counts_as_exported_when_all_of_its_stages_are(pipeline: Path, cli: Cli) -> None:
    (pipeline / "job.yaml").write_text(JOB + "output: digests.jsonl\nretention: {outputs: drop}\n")
    ended = cli(*RUN)
    assert ended.code == 0, ended.err
    assert all(each["output_text"] for each in exported(cli))
    for stage in ("facts", "brief"):
        assert all(each["output_text"] for each in exported(cli, "--stage", stage)), "nothing of it is in a file yet"
        assert cli("export", "digest-1", "--stage", stage, "-o", f"{stage}.jsonl", *ON).code == 0
    assert not any(each["output_text"] for each in exported(cli))


def test_an_estimate_names_what_cannot_be_estimated(pipeline: Path, cli: Cli) -> None:
    refused = cli("estimate", "job.yaml", "--exact", "all", *ON)
    assert (refused.code, "depend on answers" in refused.err) == (2, True)
    compared = printed(cli, "estimate", "job.yaml", "--compare", "gpt-6-luna", "--json")["compared"]
    assert {each["model"] for each in compared} == {"gpt-6-luna"}
    piloted = cli("estimate", "job.yaml", "--pilot", "1", "--progress", "none", *ON)
    assert piloted.code == 0, piloted.err
    assert "answers as long as earlier ones of each stage" in piloted.out
    (pipeline / "job.yaml").write_text(JOB.replace("group_by: section", "group_by: brief"))
    ranges = printed(cli, "estimate", "job.yaml", "--json")["stages"]["digest"]["requests"]
    assert ranges == {"low": 1, "likely": None, "high": BRIEFS}
