"""How a run ended decides the exit code and what is offered next."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.resume_hint import program, resume_command
from orchestrator.cli.run import overrides
from orchestrator.cli.run_outcome import enough_usd, next_steps
from orchestrator.core.errors import ExitCode
from orchestrator.core.increments import Change
from orchestrator.core.model import PlanMark, Usage
from orchestrator.core.money import Bound, parse_usd
from orchestrator.core.states import RunState, State
from orchestrator.report.exit_code import exit_code
from orchestrator.stores.reads import RequestCounts, Run, Summary


def a_summary(state: RunState, **counts: int) -> Summary:
    run = Run(
        id=1,
        name="nightly-1",
        uid="u",
        job="nightly",
        spec_json="{}",
        fingerprint="f",
        input_identity="i",
        state=state,
        reason=None,
        budget_pusd=None,
        deadline_at=None,
        created_at=0.0,
        ended_at=None,
        cancel_requested=False,
        plan=PlanMark(position=0, complete=True),
    )
    return Summary(
        run=run,
        requests=RequestCounts({State(name): number for name, number in counts.items()}),
        skipped_rows=0,
        attempts=0,
        polls=0,
        rate_limited=0,
        reused=0,
        possible_duplicates=0,
        possible_duplicates_bound=Bound(0),
        usage=Usage(),
        cost_pusd=0,
        cost_unknown=0,
        cost_unknown_bound=Bound(0),
        reserved_pusd=0,
        elapsed_s=0.0,
    )


@pytest.mark.parametrize(
    ("summary", "interrupted", "code"),
    [
        (a_summary(RunState.FINISHED, succeeded=3), None, ExitCode.OK),
        (a_summary(RunState.FINISHED), None, ExitCode.SOME_FAILED),
        (a_summary(RunState.FINISHED, succeeded=3), ExitCode.INTERRUPTED, ExitCode.OK),
        (a_summary(RunState.FINISHED, succeeded=3, failed=1), None, ExitCode.SOME_FAILED),
        (a_summary(RunState.FINISHED, succeeded=3, cancelled=1), None, ExitCode.SOME_FAILED),
        (a_summary(RunState.HALTED, succeeded=3, pending=1), None, ExitCode.HALTED),
        (a_summary(RunState.CANCELLED, cancelled=1), None, ExitCode.HALTED),
        (a_summary(RunState.PAUSED, pending=1), ExitCode.INTERRUPTED, ExitCode.INTERRUPTED),
        (a_summary(RunState.PAUSED, pending=1), ExitCode.TERMINATED, ExitCode.TERMINATED),
    ],
)
def test_exit_codes(summary: Summary, interrupted: ExitCode | None, code: ExitCode) -> None:
    assert exit_code(summary, interrupted) is code


def test_a_run_without_a_request_is_a_success_only_if_it_may_be_empty_or_nothing_has_changed() -> None:
    empty = a_summary(RunState.FINISHED)
    assert exit_code(empty, None, may_be_empty=True) is ExitCode.OK
    assert exit_code(replace(empty, changes=Counter({Change.UNCHANGED: 7})), None) is ExitCode.OK
    assert exit_code(replace(empty, changes=Counter({Change.REMOVED: 7})), None) is ExitCode.SOME_FAILED
    failed = a_summary(RunState.FINISHED, failed=1)
    assert exit_code(failed, None, may_be_empty=True) is ExitCode.SOME_FAILED


def steps(summary: Summary) -> list[str]:
    return next_steps(summary, called_as="orchestrator", database="my runs.db", resume="RESUME")


def test_a_run_without_trouble_offers_nothing() -> None:
    assert steps(a_summary(RunState.FINISHED, succeeded=3)) == []


def test_failures_can_be_seen_queued_and_sent_again() -> None:
    assert steps(a_summary(RunState.FINISHED, failed=3)) == [
        "see what failed:  orchestrator export nightly-1 --db 'my runs.db' --state failed",
        "queue it again:   orchestrator retry nightly-1 --db 'my runs.db'",
        "and send it:      RESUME",
    ]


def test_a_halted_run_is_resumed_and_what_is_in_doubt_is_decided() -> None:
    assert steps(a_summary(RunState.HALTED, pending=3)) == ["resume:  RESUME"]
    assert steps(a_summary(RunState.HALTED, in_doubt=1)) == [
        "decide what is in doubt:  orchestrator retry nightly-1 --db 'my runs.db' --resolve-in-doubt resend",
        "resume:  RESUME",
    ]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run", "a b.yaml"], "o run 'a b.yaml' --run n-1"),
        (["run", "j.yaml", "--new", "--db", "x.db"], "o run j.yaml --db x.db --run n-1"),
        (["run", "j.yaml", "--run", "n-1", "--json"], "o run j.yaml --json --run n-1"),
        (["run", "--run=n-1", "j.yaml"], "o run j.yaml --run n-1"),
        (
            ["run", "j.yaml", "--db", "postgresql://me:secret@host/team"],
            "o run j.yaml --db postgresql://me@host/team --run n-1",
        ),
        (
            ["run", "j.yaml", "--db=postgresql://me:secret@host/t"],
            "o run j.yaml --db=postgresql://me@host/t --run n-1",
        ),
        (["resume", "n-1", "--db", "postgres://me:secret@host/team"], "o resume n-1 --db postgres://me@host/team"),
        (
            ["run", "j.yaml", "--set", "request.input=it's $5"],
            "o run j.yaml --set 'request.input=it'\"'\"'s $5' --run n-1",
        ),
    ],
)
def test_the_resume_command_is_the_same_command_on_the_same_run(arguments: list[str], command: str) -> None:
    assert resume_command("o", arguments, "n-1") == command


def test_after_a_budget_is_used_up_the_command_names_a_higher_one() -> None:
    arguments = ["run", "j.yaml", "--set", "budget.usd=1", "--set=request.model=m", "--set=budget.usd=2", "--run=n-1"]
    command = resume_command("o", arguments, "n-1", budget_usd="4")
    assert command == "o run j.yaml --set request.model=m --set budget.usd=4 --run n-1"


@pytest.mark.parametrize(
    ("cost_usd", "counts", "enough"),
    [
        ("0.9", {"succeeded": 100, "pending": 900}, "11"),
        ("0.9", {"succeeded": 900, "pending": 100}, "2"),
        ("0", {"pending": 100}, "2"),
        ("0.987654321", {"succeeded": 10, "pending": 9990}, "1200"),
    ],
)
def test_that_is_enough_for_all_that_is_left(cost_usd: str, counts: dict[str, int], enough: str) -> None:
    summary = a_summary(RunState.HALTED, **counts)
    run = replace(summary.run, reason="budget", budget_pusd=parse_usd("1"))
    assert enough_usd(replace(summary, run=run, cost_pusd=parse_usd(cost_usd))) == enough
    assert enough_usd(replace(summary, run=replace(run, reason="deadline"))) is None
    assert enough_usd(replace(summary, run=replace(run, budget_pusd=None))) is None


def test_the_module_is_named_as_it_was_called(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[0] = '/x/orchestrator/__main__.py'; "
        "from orchestrator.cli.resume_hint import program; print(program())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"{sys.executable} -m orchestrator"


def test_a_script_off_the_path_is_named_by_its_own_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "my tools" / "orchestrator"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(script)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "orchestrator"


def test_overrides_keep_what_follows_the_first_equal_sign() -> None:
    assert overrides(["request.model=gpt-5", "request.input=a=b"]) == {
        "request.model": "gpt-5",
        "request.input": "a=b",
    }
