"""Outputs replace nothing that is needed: not what a run reads or keeps, and not better results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import ROWS, RUN, Ended, write_config

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none")
NEEDED = (
    "runs.db", "runs.db-wal", "runs.db-shm", "runs.db-journal", "runs.db.lock", "runs.db.sandbox",
    "runs.db.sandbox-wal", "runs.db.sandbox.address", "rows.jsonl", "job.yaml", "config.yaml", "prices.yaml",
)  # fmt: skip


@pytest.fixture
def done(folder: Path, cli: Cli) -> Path:
    """A folder with a run of three rows."""
    (folder / "prices.yaml").write_text("prices: []\n")
    with (folder / "config.yaml").open("a") as stream:
        stream.write("prices: prices.yaml\n")
    assert cli(*QUIET, "--limit", "3").code == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    # SQLite's index of its log changes with every reader.
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in {".yaml", ".jsonl", ".db"}}


def test_what_a_run_reads_and_keeps_is_no_target_of_an_export(done: Path, cli: Cli) -> None:
    (done / "hard.csv").hardlink_to(done / "runs.db")
    (done / "soft.csv").symlink_to("rows.jsonl")
    before = contents(done)
    at = ("--db", "runs.db", "--config", "config.yaml")
    for name in (*NEEDED, "hard.csv", "soft.csv", "../" + done.name + "/runs.db"):
        ended = cli("export", "greet-1", *at, "--format", "jsonl", "-o", name)
        assert (ended.code, "would be overwritten" in ended.err) == (2, True), name
    assert contents(done) == before


def test_nor_of_a_run(done: Path, cli: Cli) -> None:
    (done / "soft.jsonl").symlink_to("runs.db")
    before = contents(done)
    for name in ("runs.db-wal", "job.yaml", "soft.jsonl"):
        assert cli(*QUIET, "--limit", "3", "-o", name).code == 2, name
    assert cli(*QUIET, "--set", "output=soft.jsonl").code == 2
    assert contents(done) == before


@pytest.mark.parametrize(
    "trial", [("--limit", "2"), ("--set", "input.limit=2"), ("--set", "request.model=gpt-5-nano")]
)
def test_a_trial_leaves_the_results_of_the_job(folder: Path, cli: Cli, trial: tuple[str, str]) -> None:
    ended = cli(*QUIET, *trial)
    assert (ended.code, "-o FILE writes its results" in ended.err) == (0, True)
    assert not (folder / "results").exists()
    assert cli(*QUIET, "--new", *trial, "-o", "trial.jsonl").code == 0
    assert (folder / "trial.jsonl").read_text()


def test_a_budget_given_on_the_command_line_makes_no_trial(folder: Path, cli: Cli) -> None:
    assert cli(*QUIET, "--set", "budget.usd=9", "--set", "retry.attempts=3").code == 0
    assert len((folder / "results" / "greetings.jsonl").read_text().splitlines()) == ROWS


def test_a_run_without_a_success_leaves_the_results_there_are(folder: Path, cli: Cli) -> None:
    (folder / "results").mkdir()
    results = folder / "results" / "greetings.jsonl"
    results.write_text("yesterday\n")
    write_config(folder, faults="refusal: 1")
    ended = cli(*QUIET)
    assert (ended.code, "is left as it was" in ended.err) == (3, True)
    assert results.read_text() == "yesterday\n"
    assert cli("export", "greet-1", "--db", "runs.db", "-o", str(results)).code == 0
    assert len(results.read_text().splitlines()) == ROWS
