"""``report``: which run or dataset it is of, where it goes, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
DB = ("--db", "runs.db")


@pytest.fixture
def greeted(folder: Path, cli: Cli) -> Path:
    assert cli(*RUN, "--limit", "5", "--progress", "none").code == 0
    return folder


def test_a_report_has_the_figures_of_the_commands(greeted: Path, cli: Cli) -> None:
    ended = cli("report", "greet-1", *DB)
    assert (ended.code, ended.out) == (0, "")
    html = (greeted / "report.html").read_text()
    shown = dict(re.findall(r'<data data-figure="(\w+)" value="([^"]*)">', html))
    status = json.loads(cli("status", "greet-1", *DB, "--json").out)
    costs = json.loads(cli("costs", "greet-1", *DB, "--json").out)
    assert shown["cost_usd"] == status["cost_usd"] == costs["total"]["cost_usd"] == shown["total_cost_usd"]
    assert (shown["attempts"], shown["polls"]) == (str(status["attempts"]), str(status["polls"]))
    assert f"orchestrator view greet-1 --db {DB[1]}" in html
    assert "canary" not in html
    assert re.search(r"<td>gpt-[\w.-]+</td><td class=\"number\">[\d,–]+</td>", html)
    assert (greeted / "report.html").stat().st_mode & 0o077 == 0


def test_a_report_goes_to_standard_output(greeted: Path, cli: Cli) -> None:
    ended = cli("report", "greet-1", *DB, "-o", "-")
    assert ended.code == 0
    assert ended.out.startswith("<!doctype html>")
    assert not (greeted / "report.html").exists()


@pytest.mark.parametrize("target", ["runs.db", "rows.jsonl", "job.yaml", "."])
def test_nothing_that_is_needed_is_replaced_by_a_report(greeted: Path, cli: Cli, target: str) -> None:
    before = {file.name: file.stat().st_size for file in greeted.iterdir() if file.is_file()}
    assert cli("report", "greet-1", *DB, "-o", target).code == 2
    assert {name: (greeted / name).stat().st_size for name in before} == before


def test_a_name_that_is_neither_a_run_nor_a_dataset_is_named(greeted: Path, cli: Cli) -> None:
    ended = cli("report", "greet-9", *DB)
    assert ended.code == 2
    assert "no run and no dataset named 'greet-9'" in ended.err
    assert "greet-1" in ended.err
    assert not (greeted / "report.html").exists()


def test_a_dataset_has_a_report(folder: Path, cli: Cli) -> None:
    job = folder / "job.yaml"
    job.write_text(job.read_text() + "increments: {}\n")
    assert cli(*RUN, "--limit", "3", "--progress", "none").code == 0
    ended = cli("report", "greet", *DB)
    assert ended.code == 0, ended.err
    html = (folder / "report.html").read_text()
    assert "greet-1" in html
    assert "orchestrator export --dataset greet --db runs.db" in html
