"""What a job file, a row or a server from someone else may not do, and who may read what runs leave behind."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

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
