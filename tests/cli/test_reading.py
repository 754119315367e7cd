"""Commands that read at a finished run, and change nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from orchestrator.cli.app import invoke

from .conftest import ROWS, RUN, Ended, write_job

Cli: TypeAlias = Callable[..., Ended]

KEYS = [f"row-{n}" for n in range(ROWS)]
AT = ("--db", "runs.db")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the job has been run to its end."""
    folder = tmp_path_factory.mktemp("done")
    write_job(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert invoke([*RUN, "--progress", "none", "--json"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def read(done: Path, cli: Cli) -> Cli:
    """Run a reading command there."""

    def run(*arguments: str) -> Ended:
        return cli(*arguments, within=done)

    return run


def test_status_and_runs_agree(read: Cli) -> None:
    summary = json.loads(read("status", *AT, "--json").out)
    assert (summary["run"], summary["state"], summary["requests"]["succeeded"]) == ("greet-1", "finished", ROWS)
    assert json.loads(read("status", "greet-1", *AT, "--json").out) == summary
    assert json.loads(read("runs", *AT, "--json").out) == [summary]
    assert read("status", "--config", "config.yaml").out.startswith("greet-1  finished after ")
    assert read("runs", *AT).out.splitlines()[1].startswith("greet-1  greet  finished       30  30       0  $0.0")


def test_exports_in_every_shape(read: Cli, done: Path) -> None:
    to_stdout = read("export", "greet-1", *AT)
    assert to_stdout == Ended(0, (done / "results" / "greetings.jsonl").read_text(), "")
    assert read("export", "greet-1", *AT, "-o", "-") == to_stdout
    assert read("export", "greet-1", *AT, "-o", "deep/out.csv").err == "deep/out.csv: 30 rows\n"
    rows = list(csv.DictReader(io.StringIO((done / "deep" / "out.csv").read_text(), newline="")))
    assert [row["key"] for row in rows] == KEYS
    batch = [json.loads(line) for line in read("export", "greet-1", *AT, "--format", "openai-batch").out.splitlines()]
    assert [line["custom_id"] for line in batch] == KEYS
    assert {line["response"]["body"]["status"] for line in batch} == {"completed"}
    pytest.importorskip("arro3.io")
    assert read("export", "greet-1", *AT, "-o", "out.parquet") == Ended(0, "", "out.parquet: 30 rows\n")
    assert read("export", "greet-1", *AT, "--state", "failed") == Ended(0, "", "")


def test_a_reader_that_has_enough_ends_an_export_quietly(
    done: Path, command: list[str], environment: dict[str, str]
) -> None:
    export = subprocess.Popen(
        [*command, "export", "greet-1", *AT],
        cwd=done,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert export.stdout is not None
    export.stdout.close()
    export.stdout = None
    _, err = export.communicate()
    assert (export.returncode, err) == (0, "")


def test_one_row_can_be_shown_whole(read: Cli) -> None:
    assert read("show", "greet-1", "row-7", *AT).out.startswith("row-7  succeeded\nfrom rows.jsonl:8\n")
    history = json.loads(read("show", "greet-1", "row-7", *AT, "--json").out)
    body = json.loads(read("show", "greet-1", "row-7", *AT, "--raw").out)
    assert history["row"] == {"text": "The canary number 7 sings. It is yellow."}
    assert history["attempts"][0]["response"] == body
    assert body["status"] == "completed"


def test_costs_add_up_to_the_summary(read: Cli) -> None:
    summary = json.loads(read("status", *AT, "--json").out)
    costs = json.loads(read("costs", "greet-1", *AT, "--json").out)
    assert costs["by"] == ["model", "tier"]
    assert (costs["total"]["responses"], costs["total"]["cost_usd"]) == (ROWS, summary["cost_usd"])
    assert read("costs", *AT).out.splitlines()[0].startswith("RUN      RESPONSES")
    assert read("costs", "greet-1", *AT, "--by", "state,day", "--csv").out.startswith("state,day,responses,")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("status", "gret-1", *AT), 2, "greet-1"),
        (("show", "greet-1", "row-99", *AT), 2, "row-99"),
        (("retry", "gret-1", *AT), 2, "greet-1"),
        (("status", "--db", "nope.db"), 5, "nope.db"),
        (("runs", "--db", "job.yaml"), 5, "job.yaml"),
        (("status", "--config", "nope.yaml"), 2, "nope.yaml"),
        (("export", "greet-1", *AT, "-o", "job.yaml/out.csv"), 2, "job.yaml/out.csv"),
    ],
)
def test_what_is_missing_is_reported_with_what_exists(
    read: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = read(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("error: ")
    assert words in ended.err


def test_nothing_to_retry_is_said(read: Cli) -> None:
    assert read("retry", "greet-1", *AT) == Ended(0, "nothing of greet-1 matches, so nothing changed\n", "")


@pytest.mark.parametrize("kind", ["job", "config"])
def test_schemas_are_json_schemas(kind: str, read: Cli) -> None:
    schema: dict[str, Any] = json.loads(read("schema", kind).out)
    assert schema["type"] == "object"
    assert "$schema" in schema


def test_the_doctor_says_what_is_missing(read: Cli) -> None:
    well = read("doctor", "--config", "config.yaml", "--json")
    assert (well.code, json.loads(well.out)["ok"]) == (0, True)
    ill = read("doctor", *AT)
    assert ill.code == 2
    assert re.search(r"^FAIL +key ", ill.out, re.MULTILINE)
    assert "OPENAI_API_KEY" in ill.out
