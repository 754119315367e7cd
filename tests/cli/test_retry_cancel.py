"""Deciding what is to become of requests, and what is said of that."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import RUN, Ended, write_config

Cli: TypeAlias = Callable[..., Ended]
# So few that their failures are no outage.
ROWS = 3
AT = ("greet-1", "--db", "runs.db")


def leave_in_doubt(folder: Path, cli: Cli, fault: str = "drop_after") -> Ended:
    """A run whose every reply is lost, and which is not to send anything twice."""
    write_config(folder, faults=f"{fault}: 1")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + "in_doubt: {resend_below_usd: 0}\ntimeouts: {read: 0.3s}\n")
    ended = cli(*RUN, "--limit", str(ROWS), "--progress", "none")
    assert ended.code == 4
    assert "decide what is in doubt:" in ended.err
    return ended


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("hang", "no answer within 0.3 s (timeouts.read in the config sets how long to wait) 3"),
        ("gateway_timeout", "error code: 504 3"),
        ("drop_after", "the connection was closed before an answer came 3"),
    ],
)
def test_the_cause_of_doubt_is_named(folder: Path, cli: Cli, fault: str, cause: str) -> None:
    ended = leave_in_doubt(folder, cli, fault)
    later = cli("status", *AT)
    for said in (ended.out, later.out):
        [line] = [line for line in said.splitlines() if line.startswith("  in doubt")]
        assert cause in line


def test_what_is_in_doubt_is_queued_again(folder: Path, cli: Cli) -> None:
    leave_in_doubt(folder, cli)
    ended = cli("retry", *AT, "--resolve-in-doubt", "resend")
    assert ended.out == f"{ROWS} requests of greet-1 are queued again; `run` with --run greet-1 sends them\n"


def test_what_is_in_doubt_is_given_up(folder: Path, cli: Cli) -> None:
    leave_in_doubt(folder, cli)
    ended = cli("retry", *AT, "--resolve-in-doubt", "fail")
    assert ended.out == f"{ROWS} requests of greet-1 were in doubt and count as failed now\n"


def test_what_is_in_doubt_is_given_up_while_what_failed_is_queued_again(folder: Path, cli: Cli) -> None:
    leave_in_doubt(folder, cli)
    cli("retry", *AT, "--resolve-in-doubt", "fail")
    ended = cli("retry", *AT, "--resolve-in-doubt", "fail", "--state", "failed")
    assert f"{ROWS} requests of greet-1 are queued again, but those that were in doubt count as failed" in ended.out


def test_after_a_budget_is_used_up_the_offered_command_runs_to_the_end(folder: Path, process: Cli) -> None:
    ended = process(*RUN, "--limit", "9", "--set", "budget.usd=0.001", "--progress", "none")
    assert ended.code == 4
    [offered] = [line for line in ended.err.splitlines() if "resume:" in line]
    assert offered.count("budget.usd=") == 1
    arguments = shlex.split(offered)
    assert process(*arguments[arguments.index("run") :]).code == 0


def test_a_database_that_was_begun_and_never_made_is_no_hindrance(folder: Path, cli: Cli) -> None:
    (folder / "runs.db").touch()
    assert cli(*RUN, "--limit", "2", "--progress", "none").code == 0
