"""A new user, without the clone: what the help and the documentation say is enough."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from orchestrator.job.spec import Input

from .conftest import Installed, Said

pytestmark = pytest.mark.services

Shell: TypeAlias = Callable[..., Said]

RECORDS = """\
from pydantic import BaseModel


class Complaint(BaseModel):
    customer: str
    urgent: bool
"""
SLOW = """\
provider: {sandbox: {latency: {queue: 0.2, run: 0.4}, limits: {requests_per_minute: 100000}}}
limits: {max_in_flight: 5, requests_per_minute: 100000, polls_per_minute: 100000}
"""


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def succeeded(said: Said) -> int:
    assert said.code == 0, said.err
    number: int = json.loads(said.out)["requests"]["succeeded"]
    return number


def test_the_command_leads_to_a_first_run(shell: Shell, tmp_path: Path) -> None:
    overview = shell("orchestrator")
    assert overview.code == 0
    commands = overview.out.partition("Start without a key")[2].strip().splitlines()
    for command in commands:
        said = shell(*shlex.split(command))
        assert said.code == 0, said.err
    with (tmp_path / "results.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", shell("orchestrator", "-V").out)
    assert "Usage: orchestrator export" in shell("orchestrator", "help", "export").out
    assert shell("orchestrator", "schema", "job").out.startswith("{")
    wrong = shell("orchestrator", "run", "job.yaml", "--run", "with-a-key")
    assert wrong.code == 2
    assert "OPENAI_API_KEY" in wrong.err
    assert "--config sandbox" in wrong.err


@pytest.mark.skipif("delimiter" not in Input.model_fields, reason="no input.delimiter")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252"])
def test_a_spreadsheet_with_semicolons_and_umlauts(shell: Shell, tmp_path: Path, encoding: str) -> None:
    shell("orchestrator", "init")
    text = (
        "Nr;Kunde;Text;\r\n007;Müller;Die Gläser kamen zerbrochen an. Größe 5;\r\n008;Groß;Schöner Käse. Danke;\r\n"
    )
    (tmp_path / "kunden.csv").write_bytes(text.encode(encoding))
    given = encoding.removesuffix("-sig")
    change(tmp_path / "job.yaml", "path: rows.csv", f'path: kunden.csv\n  delimiter: ";"\n  encoding: {given}\n #')
    change(tmp_path / "job.yaml", "key: id", "key: Nr")
    change(tmp_path / "job.yaml", "{{ message }}", "{{ Kunde }}: {{ Text }}")
    assert succeeded(shell("orchestrator", "run", "job.yaml", "--sandbox", "--json")) == 2
    with (tmp_path / "results.csv").open(encoding="utf-8-sig") as file:
        rows = {row["key"]: row["output_text"] for row in csv.DictReader(file)}
    assert set(rows) == {"007", "008"}
    assert "Müller: Die Gläser kamen zerbrochen an." in rows["007"]


def test_typed_records(shell: Shell, tmp_path: Path) -> None:
    shell("orchestrator", "init")
    (tmp_path / "records.py").write_text(RECORDS)
    change(tmp_path / "job.yaml", "output: results.csv", "output_model: records:Complaint\noutput: results.parquet")
    change(tmp_path / "job.yaml", "max_output_tokens: 400", "max_output_tokens: 2000")
    assert succeeded(shell("orchestrator", "run", "job.yaml", "--sandbox", "--json")) == 10
    script = "import polars; print(polars.read_parquet('results.parquet').schema['output.urgent'])"
    assert shell("python", "-c", script).out == "Boolean\n"


def test_ctrl_c_then_the_command_that_it_names(installed: Installed, shell: Shell, tmp_path: Path) -> None:
    shell("orchestrator", "init")
    (tmp_path / "slow.yaml").write_text(SLOW)
    rows = "".join(f"{n},Customer,Message {n}.\n" for n in range(60))
    (tmp_path / "rows.csv").write_text(f"id,customer,message\n{rows}")
    command = ["orchestrator", "run", "job.yaml", "--config", "slow.yaml", "--progress", "none"]
    environ = {**installed.environ(), "ORCHESTRATOR_LOG": "debug"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "settled" in line:
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "nothing is lost" in said
    [resume] = re.findall(r"orchestrator run .*--run \S+", said)
    assert succeeded(shell(*shlex.split(resume), "--json")) == 60


def test_the_next_night_asks_what_is_new(shell: Shell, tmp_path: Path) -> None:
    shell("orchestrator", "init")
    change(tmp_path / "job.yaml", "budget:", "increments: {}\nbudget:")
    run = ("orchestrator", "run", "job.yaml", "--sandbox", "--json")
    assert succeeded(shell(*run)) == 10
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("M011,Ångström,The lamp hums. Is that normal?\n")
    assert succeeded(shell(*run)) == 1
    with (tmp_path / "results.csv").open(encoding="utf-8-sig") as results:
        assert len(list(csv.DictReader(results))) == 11
