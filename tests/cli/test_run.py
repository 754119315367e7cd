"""``run``: results, resuming, exit codes, and what is said where."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import ROWS, RUN, Ended, write_config

Cli: TypeAlias = Callable[..., Ended]

SLOW = "{from_s: 0.01, to_s: 4}"


def test_a_run_answers_every_row_and_a_second_has_nothing_to_do(folder: Path, process: Cli, cli: Cli) -> None:
    ended = process(*RUN, "--run", "first")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("first  finished after ")
    assert "30 succeeded" in ended.out
    assert "results/greetings.jsonl (30 rows)" in ended.out
    assert "sandbox: simulated answers" in ended.err
    assert "first: 30 of 30 settled" in ended.err
    lines = [json.loads(line) for line in (folder / "results" / "greetings.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [f"row-{n}" for n in range(ROWS)]
    assert all(line["output_text"] for line in lines)

    before = json.loads(cli("status", "--db", "runs.db", "--json").out)
    again = cli(*RUN, "--run", "first", "--json")
    assert (again.code, json.loads(again.out)) == (0, before)
    assert "nothing was left to do" in again.err


@pytest.mark.parametrize("style", ["console", "json"])
def test_standard_output_is_one_object_and_no_prompt_answer_or_key_is_said(
    folder: Path, process: Cli, style: str
) -> None:
    ended = process(
        *RUN,
        "--json",
        "--db",
        "other.db",
        env={"ORCHESTRATOR_LOG": "debug", "ORCHESTRATOR_LOG_FORMAT": style, "OPENAI_API_KEY": "sk-canary"},
    )
    summary = json.loads(ended.out)
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert (summary["run"], summary["state"], summary["requests"]["succeeded"]) == ("greet-1", "finished", ROWS)
    assert summary["database"] == "other.db"
    assert ended.err.count("resp_") >= ROWS
    assert "canary" not in ended.err + ended.out


def test_failed_rows_are_exit_3_and_can_be_seen_and_retried(folder: Path, cli: Cli) -> None:
    write_config(folder, faults="refusal: 1")
    ended = cli(*RUN)
    assert ended.code == 3
    assert "30 failed" in ended.out
    assert "refusal 30" in ended.out
    assert "see what failed" in ended.err
    at = ("--db", "runs.db")
    failed = [json.loads(line) for line in cli("export", "greet-1", *at, "--state", "failed").out.splitlines()]
    assert [line["error"]["code"] for line in failed] == ["refusal"] * ROWS
    assert cli("export", "greet-1", *at, "--state", "succeeded").out == ""

    write_config(folder)
    queued = cli("retry", "greet-1", *at, "--code", "refusal", "--json")
    assert json.loads(queued.out) == {"run": "greet-1", "requeued": ROWS}
    ended = cli(*RUN, "--run", "greet-1")
    assert (ended.code, "30 succeeded" in ended.out) == (0, True)


def test_a_run_that_cannot_continue_is_exit_4_and_says_why(folder: Path, cli: Cli) -> None:
    write_config(folder, faults="insufficient_quota: 1")
    ended = cli(*RUN)
    assert ended.code == 4
    assert re.match(r"greet-1  halted after .* s\n.*quota", ended.out)
    assert "resume:  " in ended.err
    assert not (folder / "results").exists()


def test_a_dry_run_shows_the_first_request_and_sends_nothing(folder: Path, cli: Cli) -> None:
    ended = cli(*RUN, "--dry-run")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("30 rows can be sent\n")
    assert "The canary number 0 sings." in ended.out
    changed = cli(*RUN, "--dry-run", "--json", "--set", "request.model=gpt-5-nano", "--limit", "3")
    printed = json.loads(changed.out)
    assert (printed["rows"], printed["skipped"], printed["first_request"]["model"]) == (3, [], "gpt-5-nano")
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write("not JSON\n")
    printed = json.loads(cli(*RUN, "--dry-run", "--json", "--set", "input.on_bad_row=skip").out)
    assert [row["where"] for row in printed["skipped"]] == ["rows.jsonl:31"]
    assert cli(*RUN, "--dry-run").code == 2
    assert not (folder / "runs.db").exists()


def test_output_given_on_the_command_line_is_beside_the_caller(folder: Path, cli: Cli) -> None:
    (folder / "elsewhere").mkdir()
    ended = cli(
        "run",
        "../job.yaml",
        "--config",
        "../config.yaml",
        "-o",
        "mine.csv",
        "--limit",
        "2",
        within=folder / "elsewhere",
    )
    assert "mine.csv (2 rows)" in ended.out
    assert (folder / "elsewhere" / "mine.csv").read_text().startswith("key,state,")
    assert not (folder / "results").exists()


def test_an_output_that_cannot_be_written_is_reported_before_anything_is_sent(folder: Path, cli: Cli) -> None:
    (folder / "results").write_text("in the way")
    ended = cli(*RUN)
    assert (ended.code, ended.out) == (2, "")
    assert "results/greetings.jsonl" in ended.err
    assert not (folder / "runs.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "nope.yaml"), 2, "nope.yaml"),
        (("run", "job.yaml"), 2, "--config sandbox"),
        (("run", "job.yaml", "--config", "nope.yaml"), 2, "nope.yaml"),
        ((*RUN, "--set", "retry.atempts=3"), 2, "attempts"),
        ((*RUN, "--set", "input.path=nope.jsonl"), 2, "nope.jsonl"),
        ((*RUN, "--db", "job.yaml"), 5, "job.yaml"),
    ],
)
def test_what_cannot_work_is_reported_in_one_message(
    folder: Path, cli: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (code, "")
    # A warning, such as that of a model's end, may come first.
    message = ended.err[ended.err.index("error: ") :]
    assert message.count("error: ") == 1
    assert words in message
    assert not (folder / "runs.db").exists()


def test_bad_settings_of_the_log_are_reported(folder: Path, cli: Cli) -> None:
    ended = cli(*RUN, env={"ORCHESTRATOR_LOG": "loud"})
    assert (ended.code, ended.err) == (2, "error: ORCHESTRATOR_LOG must be one of debug, info, warning\n")


def start(folder: Path, command: list[str], environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a run and return when its first request has settled."""
    process = subprocess.Popen(
        [*command, *RUN, *arguments],
        cwd=folder,
        env={**environment, "ORCHESTRATOR_LOG": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "[debug] settled" in line:
            return process
    raise AssertionError("nothing settled")


def test_an_interrupted_run_says_how_to_resume_and_does(
    folder: Path, command: list[str], environment: dict[str, str]
) -> None:
    write_config(folder, run_s=SLOW, in_flight=5)
    process = start(folder, command, environment, "--json", "--set", "request.input=a b {{ text }}")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    summary = json.loads(out)
    assert (summary["state"], summary["requests"]["failed"]) == ("paused", 0)
    assert "nothing is lost" in err
    assert not (folder / "results").exists()

    resume = re.search(r"resume:  (.*)", err)
    assert resume
    write_config(folder)
    ended = subprocess.run(
        ["bash", "-c", resume[1]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    after = json.loads(ended.stdout)
    assert (after["run"], after["requests"]["succeeded"]) == (summary["run"], ROWS)


def test_an_interruption_counts_what_is_on_the_wire(
    folder: Path, cli: Cli, command: list[str], environment: dict[str, str]
) -> None:
    write_config(folder, faults="hang: 1", in_flight=3)
    with subprocess.Popen(
        [*command, *RUN], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(200):
            status = cli("status", "--db", "runs.db", "--json")
            if status.code == 0 and json.loads(status.out)["requests"]["submitting"] == 3:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    [line] = [line for line in err.splitlines() if line.startswith("interrupted with")]
    assert line.startswith("interrupted with 0 settled and 0 open; 3 were on the wire without a reply: the next run")
    assert "nothing is lost" not in line
    assert json.loads(cli("status", "--db", "runs.db", "--json").out)["requests"]["submitting"] == 3


def test_cancel_ends_a_run_for_good(folder: Path, cli: Cli, command: list[str], environment: dict[str, str]) -> None:
    write_config(folder, run_s=SLOW, in_flight=5)
    process = start(folder, command, environment)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    ended = cli("cancel", "greet-1", "--config", "config.yaml", "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert summary["state"] == "cancelled"
    assert summary["requests"]["succeeded"] + summary["requests"]["cancelled"] == ROWS
    assert cli(*RUN, "--run", "greet-1").code == 4


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_closed_streams_change_nothing_about_how_a_run_ends(
    folder: Path, cli: Cli, command: list[str], environment: dict[str, str], closed: str
) -> None:
    """A reader that went away, a terminal that was closed, or streams that never were."""
    if closed == "both":
        command = ["bash", "-c", 'exec "$@" >&- 2>&-', "bash", *command]
    process = subprocess.Popen(
        [*command, *RUN],
        cwd=folder,
        env={**environment, "ORCHESTRATOR_LOG": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if closed == "stderr" else subprocess.DEVNULL,
    )
    stream = process.stderr if closed == "stderr" else process.stdout
    assert stream is not None
    stream.close()
    assert process.wait() == 0
    if closed == "stderr":
        assert process.stdout is not None
        assert b"30 succeeded" in process.stdout.read()
        process.stdout.close()
    assert (folder / "results" / "greetings.jsonl").exists()
    assert json.loads(cli("status", "--db", "runs.db", "--json").out)["requests"]["succeeded"] == ROWS


class Terminal:
    """A pseudo-terminal that a process believes to be its own; ``screen`` is all that it wrote."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self.screen = ""
        self.process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**environment, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def wait(self) -> int:
        """The exit code, when the process has ended and all it wrote is read."""
        code = self.process.wait()
        self._reader.join()
        os.close(self._ours)
        return code

    def _read(self) -> None:
        # Reading a terminal whose other side is closed is an error on Linux, not an end of file.
        try:
            while data := os.read(self._ours, 65536):
                self.screen += data.decode(errors="replace")
        except OSError:
            return


def test_on_a_terminal_there_is_a_bar_and_the_cursor_comes_back(
    folder: Path, command: list[str], environment: dict[str, str]
) -> None:
    write_config(folder, run_s="1")
    terminal = Terminal([*command, *RUN], folder, environment)
    assert terminal.wait() == 0
    assert "━" in terminal.screen
    assert terminal.screen.rindex("\x1b[?25h") > terminal.screen.rindex("\x1b[?25l")
    assert "finished after" in terminal.screen


def test_a_new_run_beside_an_unfinished_one_is_asked_for_on_a_terminal(
    folder: Path, cli: Cli, command: list[str], environment: dict[str, str]
) -> None:
    write_config(folder, run_s=SLOW, in_flight=5)
    unfinished = start(folder, command, environment)
    unfinished.send_signal(signal.SIGINT)
    unfinished.communicate()
    terminal = Terminal([*command, *RUN, "--new"], folder, environment)
    terminal.type("n\n")
    assert terminal.wait() == 2
    assert "greet-1 of the same job is unfinished" in terminal.screen
    assert len(json.loads(cli("runs", "--db", "runs.db", "--json").out)) == 1
    write_config(folder)
    assert cli(*RUN, "--new").code == 0
    assert len(json.loads(cli("runs", "--db", "runs.db", "--json").out)) == 2


@pytest.mark.parametrize("name", ["runs.db", "runs.db.lock"])
def test_a_run_whose_database_is_deleted_ends_with_exit_5(
    folder: Path, command: list[str], environment: dict[str, str], name: str
) -> None:
    write_config(folder, run_s="20")
    process = subprocess.Popen(
        [*command, *RUN, "--progress", "plain"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "resp_" in line or "0 of 30 settled" in line:
            break
    (folder / name).unlink()
    _, err = process.communicate()
    assert process.returncode == 5, err
    assert "was moved, deleted or replaced" in err
