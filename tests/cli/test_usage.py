"""Help is quick and whole; a wrong command line is answered with what is meant, and nothing else happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.app import build_app, invoke
from orchestrator.cli.reference import reference
from orchestrator.core.errors import UsageError

from .conftest import Ended

HEAVY = ("httptools", "genai_prices", "starlette", "uvicorn", "pydantic", "ruamel", "jinja2", "structlog", "anyio")


def test_help_imports_nothing_heavy(environment: dict[str, str]) -> None:
    script = (
        "import sys; from orchestrator.cli.app import invoke; code = invoke(sys.argv[1:]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "[]\n")


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    page = capsys.readouterr().out
    for name in (
        "run",
        "status",
        "runs",
        "show",
        "export",
        "retry",
        "cancel",
        "costs",
        "sandbox",
        "schema",
        "doctor",
        "init",
        "completion",
        "help",
    ):
        assert f"\n  {name} " in page or f"\n  {name}, " in page


@pytest.mark.parametrize("name", [name for name in build_app() if not name.startswith("-")])
def test_help_pages_keep_to_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert invoke([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"Usage: orchestrator {name}")
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 0
    assert capsys.readouterr().out.startswith("Usage: orchestrator COMMAND")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum", "job.yaml"], 'Unknown command "rum". Did you mean "run"?'),
        (["run", "job.yaml", "--confg", "c.yaml"], "Unknown option: --confg. Did you mean --config?"),
        (["run"], "error: orchestrator run needs JOB\n"),
        (["show", "a-1"], "error: orchestrator show needs KEY\n"),
        (["run", "job.yaml", "--limit"], "--limit requires an argument"),
        (["run", "job.yaml", "--limit", "many"], 'unable to convert "many" into int'),
        (["run", "job.yaml", "--progress", "plan"], 'Did you mean "plain"?'),
        (["run", "job.yaml", "--no-json"], "Unknown option: --no-json."),
        (["export", "a-1", "--format", "xml"], 'Invalid value "xml" for --format.'),
        (["status", "a-1", "b-1"], "error: orchestrator status has no use for 'b-1'\n"),
        (["doctor", "job.yaml", "x"], "error: orchestrator doctor has no use for 'job.yaml' 'x'\n"),
        (["schema", "jobs"], 'Did you mean "job"?'),
        (["retry", "a-1", "--state", "succeeded"], 'Invalid value "succeeded" for --state.'),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert message in said.err
    assert "hint: orchestrator" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "job.yaml", "--set", "request.model"], "--set request.model: no value is given"),
        (["costs", "--by", "model,colour"], "cannot be grouped by 'colour'"),
        (["sandbox", "--fault", "server_eror=0.1"], "did you mean server_error?"),
        (["sandbox", "--fault", "server_error=often"], "such as server_error=0.02"),
        (["sandbox", "--fault", "server_error=1.5"], "faults.server_error"),
    ],
)
def test_a_wrong_value_is_exit_2_and_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, message in said.err) == ("", True)


def test_the_version_is_printed(process: Callable[..., Ended]) -> None:
    ended = process("--version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip()[0].isdigit()


def test_help_for_a_reader_that_is_gone_is_quiet(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*command, "run", "--help"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


def test_a_bug_is_reported_by_kind_and_place_and_never_by_its_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ExceptionGroup("many", [ValueError("the canary sings")])

    monkeypatch.setattr("orchestrator.cli.app.build_app", broken)
    monkeypatch.delenv("ORCHESTRATOR_DEBUG", raising=False)
    assert invoke(["status"]) == 1
    said = capsys.readouterr().err
    assert "this is a bug in orchestrator: ValueError" in said
    assert "canary" not in said
    monkeypatch.setenv("ORCHESTRATOR_DEBUG", "1")
    assert invoke(["status"]) == 1
    assert "canary" in capsys.readouterr().err


def test_what_the_user_can_fix_wins_over_what_broke_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        fixable = UsageError("too many", where="job.yaml:3", hint="take fewer")
        raise ExceptionGroup("many", [ValueError("x"), ExceptionGroup("more", [fixable])])

    monkeypatch.setattr("orchestrator.cli.app.build_app", broken)
    assert invoke(["status"]) == 2
    assert capsys.readouterr().err == "error: job.yaml:3: too many\n  hint: take fewer\n"


def test_the_reference_has_a_section_for_each_command() -> None:
    page = reference()
    assert page.startswith("# Commands\n\n```text\nUsage: orchestrator COMMAND\n")
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        name for name in build_app() if not name.startswith("-") and name != "list"
    ]
    assert "--resolve-in-doubt" in page


def test_every_fault_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["sandbox", "--faults"]) == 0
    assert "\n  drop_after " in capsys.readouterr().out
