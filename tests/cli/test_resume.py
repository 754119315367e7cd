"""A run is finished from the database alone, and is named before its rows are asked again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from orchestrator.cli.resume_hint import given_option, with_given_options

from .conftest import ROWS, RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none")
AT = ("--db", "runs.db", "--config", "config.yaml")


def leave_unfinished(folder: Path, cli: Cli, *options: str) -> None:
    """A run whose rows were all read and of which a few are answered."""
    ended = cli(*QUIET, "--set", "budget.usd=0.001", *options)
    assert ended.code == 4, ended.err
    assert json.loads(cli("status", *AT, "--json").out)["requests"]["succeeded"] > 0


@pytest.fixture
def unfinished(folder: Path, cli: Cli) -> Path:
    job = (folder / "job.yaml").read_text()
    leave_unfinished(folder, cli)
    (folder / "job.yaml").write_text(job)
    return folder


def raise_budget(folder: Path) -> None:
    """Raise the budget that halted the run, which is stored with it."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute("UPDATE run SET budget_pusd = 1000000000000")
        connection.commit()


def test_a_run_is_finished_without_its_job_and_its_input(unfinished: Path, cli: Cli) -> None:
    raise_budget(unfinished)
    before = json.loads(cli("status", *AT, "--json").out)
    (unfinished / "job.yaml").unlink()
    (unfinished / "rows.jsonl").unlink()
    ended = cli("resume", "greet-1", *AT, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert (summary["requests"]["succeeded"], summary["attempts"]) == (ROWS, ROWS)
    assert before["requests"]["succeeded"] < ROWS
    assert len((unfinished / "results" / "greetings.jsonl").read_text().splitlines()) == ROWS
    again = cli("resume", "greet-1", *AT)
    assert (again.code, "nothing was left to do" in again.err) == (0, True)


def test_it_needs_the_config_that_the_run_had(unfinished: Path, cli: Cli) -> None:
    ended = cli("resume", "greet-1", "--db", "runs.db")
    assert (ended.code, "OPENAI_API_KEY" in ended.err) == (2, True)
    ended = cli("resume", "greet-1", "--db", "runs.db", env={"OPENAI_API_KEY": "sk-x"})
    assert (ended.code, "was made at the sandbox" in ended.err) == (2, True)


def test_a_run_that_was_not_read_to_its_end_needs_its_input(folder: Path, cli: Cli) -> None:
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write("not JSON\n")
    assert cli(*QUIET).code == 2
    (folder / "rows.jsonl").rename(folder / "moved.jsonl")
    ended = cli("resume", "greet-1", *AT)
    assert ended.code == 2
    assert "only the first 0 rows of its input were read" in ended.err
    assert (
        "orchestrator run --db runs.db --config config.yaml JOB --run greet-1" in ended.err
        or "orchestrator run" in ended.err
    )


def test_an_unfinished_run_of_the_job_is_named_before_its_rows_are_asked_again(unfinished: Path, cli: Cli) -> None:
    with (unfinished / "rows.jsonl").open("a") as rows:
        rows.write('{"id": "new", "text": "New."}\n')
    ended = cli(*QUIET, "--json")
    assert json.loads(ended.out)["run"] == "greet-2"
    assert "greet-1 of the same job is unfinished: " in ended.err
    assert "waiting" in ended.err
    assert "resume greet-1" in ended.err


def test_a_run_that_takes_over_what_others_have_names_none(unfinished: Path, cli: Cli) -> None:
    with (unfinished / "job.yaml").open("a") as job:
        job.write("reuse: same-request\n")
    ended = cli(*QUIET, "--new")
    assert (ended.code, "of the same job is unfinished" in ended.err) == (0, False)


def test_a_trial_writes_nothing_when_it_is_resumed_either(folder: Path, cli: Cli) -> None:
    leave_unfinished(folder, cli, "--limit", "20")
    raise_budget(folder)
    assert cli("resume", "greet-1", *AT).code == 0
    assert not (folder / "results").exists()


def test_what_halts_again_names_the_command_that_resumed_it(unfinished: Path, cli: Cli) -> None:
    ended = cli("resume", "greet-1", *AT)
    assert (ended.code, "resume:  " in ended.err) == (4, True)


class TestOfferedCommands:
    def test_they_have_the_database_and_the_config_of_the_call(self) -> None:
        hint = "its runs: `orchestrator runs`; or orchestrator export greet-1 -o FILE"
        arguments = ["status", "x", "--db=my runs.db", "--config", "c.yaml"]
        assert with_given_options(hint, arguments) == (
            "its runs: `orchestrator runs --db 'my runs.db' --config c.yaml`; "
            "or orchestrator export --db 'my runs.db' --config c.yaml greet-1 -o FILE"
        )

    def test_a_password_of_the_database_is_left_out(self) -> None:
        for given in (["--db", "postgresql://me:secret@host/team"], ["--db=postgresql://me:secret@host/team"]):
            offered = with_given_options("see orchestrator runs", ["status", *given])
            assert offered == "see orchestrator runs --db postgresql://me@host/team"

    def test_what_has_them_or_takes_none_stays(self) -> None:
        for hint in ("orchestrator runs --db a.db", "orchestrator schema job", "this is a bug in orchestrator"):
            assert with_given_options(hint, ["status", "--db", "b.db"]) == hint
        assert with_given_options("orchestrator runs", ["status"]) == "orchestrator runs"

    def test_an_option_is_found_however_it_is_written(self) -> None:
        assert given_option("--db", ["runs", "--db", "a"]) == "a"
        assert given_option("--db", ["runs", "--db=a", "--db", "b"]) == "b"
        assert given_option("--db", ["runs", "--db"]) is None
