"""Which run a command continues: trials grow, and a corrected job takes over what was halted before it began."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from .conftest import ROWS, RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none", "--json")


def summary_of(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_ten_rows_and_then_all_pay_for_the_ten_once(folder: Path, cli: Cli) -> None:
    trial = summary_of(cli(*QUIET, "--limit", "10"))
    assert (trial["run"], trial["requests"]["succeeded"]) == ("greet-1", 10)
    fewer = cli(*QUIET, "--limit", "4", "--run", "greet-1")
    assert (fewer.code, summary_of(fewer)["attempts"]) == (0, 10)
    everything = summary_of(cli(*QUIET))
    assert (everything["run"], everything["requests"]["succeeded"], everything["attempts"]) == ("greet-1", ROWS, ROWS)
    assert len((folder / "results" / "greetings.jsonl").read_text().splitlines()) == ROWS
    # The run is complete now, so the same command is asked for a new one.
    assert summary_of(cli(*QUIET, "--limit", "2"))["run"] == "greet-2"


@pytest.mark.parametrize(
    ("right", "wrong", "named", "given"),
    [
        ("gpt-5-mini", "no-such-model", "check request.model in the job", ()),
        ("max_output_tokens: 200", "tool_choice: nope", "for tool_choice", ()),
        ("max_output_tokens: 200", "text: {verbosity: loud}", "for text.verbosity", ("--run", "greet-1")),
    ],
)
def test_a_run_that_the_job_halted_is_continued_by_the_corrected_job(
    folder: Path, cli: Cli, right: str, wrong: str, named: str, given: tuple[str, ...]
) -> None:
    job = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(job.replace(right, wrong))
    halted = cli(*QUIET)
    assert halted.code == 4
    assert named in halted.err
    assert "new run" not in halted.err
    assert summary_of(halted)["run"] == "greet-1"
    (folder / "job.yaml").write_text(job)
    ended = summary_of(cli(*QUIET, *given))
    assert (ended["run"], ended["requests"]["succeeded"]) == ("greet-1", ROWS)
    assert len(json.loads(cli("runs", "--db", "runs.db", "--json").out)) == 1
