"""What a job file, a row or a server from someone else may not do, and who may read what runs leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.error_messages import report_bug

from .conftest import RUN, Ended

_TOOL = {"type": "function", "name": "sh", "parameters": {"type": "object", "properties": {}}}


def job_with(folder: Path, **fields: object) -> None:
    request = {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 100, "tools": [_TOOL]}
    job = {"name": "strange", "input": {"path": "rows.jsonl", "key": "id"}, "request": request}
    (folder / "job.yaml").write_text(json.dumps({**job, **fields}))


@pytest.mark.parametrize("reference", ["subprocess:getoutput", "os:system", "builtins:eval", "shutil:rmtree"])
def test_a_job_file_alone_runs_nothing(folder: Path, cli: Callable[..., Ended], reference: str) -> None:
    job_with(folder, handlers={"sh": reference})
    ended = cli(*RUN, "--run", "r")
    assert ended.code == 2
    assert "beside the job file" in ended.err
    assert "allow_modules" in ended.err
    job_with(folder, output_model=reference)
    ended = cli(*RUN, "--dry-run")
    assert ended.code == 2
    assert "job.yaml:1" in ended.err


def test_a_config_may_allow_more(folder: Path, cli: Callable[..., Ended]) -> None:
    job_with(folder, handlers={"sh": "platform:node"})
    with (folder / "config.yaml").open("a") as config:
        config.write("allow_modules: [platform]\n")
    assert cli(*RUN, "--run", "r", "--limit", "1").code in (0, 3)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_all_that_holds_prompts_is_for_its_owner(folder: Path, process: Callable[..., Ended], umask: int) -> None:
    theirs = {path.name for path in folder.rglob("*")}
    before = os.umask(umask)
    try:
        assert process(*RUN, "--run", "r", "--limit", "3", "-o", "out.jsonl").code == 0
    finally:
        os.umask(before)
    ours = [path for path in folder.rglob("*") if path.is_file() and path.name not in theirs]
    assert {"runs.db", "runs.db.lock", "runs.db.sandbox", "out.jsonl"} <= {path.name for path in ours}
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in ours}
    assert modes == dict.fromkeys(modes, "0o600")


def test_an_output_that_is_not_unicode_is_no_bug(folder: Path, process: Callable[..., Ended]) -> None:
    rows = [{"id": "😀", "text": "Ünïcode 😀"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for encoding in ("ascii", "latin-1"):
        env = {"PYTHONIOENCODING": encoding}
        for command in (
            (*RUN, "--dry-run"),
            (*RUN, "--run", "r"),
            ("show", "r", "😀", "--db", "runs.db"),
            ("show", "r", "no 😀", "--db", "runs.db"),
            ("export", "r", "--db", "runs.db"),
            ("status", "😀", "--db", "runs.db"),
        ):
            ended = process(*command, env=env)
            assert "bug" not in ended.err, (command, ended.err)
            assert ended.code in (0, 2), (command, ended.err)


ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\u2066\r"


def test_no_control_character_from_outside_reaches_the_terminal(folder: Path, cli: Callable[..., Ended]) -> None:
    rows = [{"id": f"row {n} {ESCAPES}", "text": f"{n} {ESCAPES}"} for n in range(3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "bad.yaml").write_text(f"name: a\n'{ESCAPES.replace(chr(13), '')}': 1\n".replace("\x07", ""), "utf-8")
    said = [
        cli(*RUN, "--run", "r"),
        cli(*RUN, "--dry-run"),
        cli("show", "r", rows[0]["id"], "--db", "runs.db"),
        cli("show", "r", f"no {ESCAPES}", "--db", "runs.db"),
        cli("status", ESCAPES, "--db", "runs.db"),
        cli("status", "r", "--db", "runs.db"),
        cli("runs", "--db", "runs.db"),
        cli("costs", "--db", "runs.db"),
        cli("costs", "--by", f"metadata.{ESCAPES}", "--db", "runs.db"),
        cli("retry", "r", "--code", ESCAPES, "--db", "runs.db"),
        cli("export", "r", "-o", f"{ESCAPES}.xyz", "--db", "runs.db"),
        cli("estimate", "job.yaml", "--config", "config.yaml"),
        cli("run", "bad.yaml", "--config", "config.yaml"),
        cli("run", f"{ESCAPES}.yaml", "--config", "config.yaml"),
        cli("run", "job.yaml", "--set", f"request.model={ESCAPES}", "--config", "config.yaml", "--dry-run"),
        cli(ESCAPES),
    ]
    for ended in said:
        for text in (ended.out, ended.err):
            found = [sign for sign in text if sign in "\x1b\x07\x9b\u202e\u2066\r"]
            assert not found, (found, text)


def test_a_debug_traceback_holds_no_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DEBUG", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary+0123/456789")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass#word@127.0.0.1:1")
    text = "sk-canary+0123/456789 sk-canary%2B0123%2F456789 http://user:pass#word@127.0.0.1:1 \x1b[2J"
    assert report_bug(ValueError(text)) == 1
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert not any(secret in said for secret in ("canary", "pass#word", "\x1b"))


def test_a_terminal_gets_no_control_character_where_a_pipe_gets_the_bytes(
    folder: Path, cli: Callable[..., Ended], command: list[str], environment: dict[str, str]
) -> None:
    (folder / "rows.jsonl").write_text(json.dumps({"id": "a", "text": f"Some text. {ESCAPES}"}) + "\n")
    assert cli(*RUN, "--run", "r").code == 0
    assert "\x9b" in cli("follow", "r", "a", "--db", "runs.db", "--config", "config.yaml").out
    for arguments in (
        ("export", "r", "--db", "runs.db"),
        ("export", "r", "--db", "runs.db", "--format", "csv"),
        ("show", "r", "a", "--db", "runs.db", "--json"),
        ("show", "r", "a", "--db", "runs.db"),
        ("status", "r", "--db", "runs.db", "--json"),
    ):
        shown = on_a_terminal([*command, *arguments], folder, environment)
        assert "Some text" in shown or arguments[0] == "status"
        assert not [sign for sign in shown.replace("\r\n", "\n") if sign in "\x1b\x07\x9b\u202e\u2066\r"], shown


def on_a_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # raised at the end, when no process holds the other side
            while piece := os.read(ours, 65_536):
                shown += piece
        process.wait()
    os.close(ours)
    # What is bold is our own.
    return re.sub("\x1b\\[[0-9;]*m", "", shown.decode())
