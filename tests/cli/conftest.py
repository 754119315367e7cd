"""The command line as a user has it, and a small job to give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.cli.app import invoke
from tests.warm import warm_python

ROWS = 30
RUN = ("run", "job.yaml", "--config", "config.yaml")

_OURS = ("OPENAI_", "ORCHESTRATOR_", "PYTEST_", "COV_")
_JOB = """\
name: greet
input: {path: rows.jsonl, key: id}
request:
  model: gpt-5-mini
  input: "Summarise: {{ text }}"
  max_output_tokens: 200
output: results/greetings.jsonl
"""
_CONFIG = """\
provider: {sandbox: {seed: 1, latency: {queue: 0, run: RUN_S}, faults: {FAULTS}}}
limits: {max_in_flight: IN_FLIGHT}
database: runs.db
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def write_config(folder: Path, *, run_s: str = "0.05", faults: str = "", in_flight: int = 100) -> None:
    """A config whose sandbox answers at once, unless configured otherwise."""
    text = _CONFIG.replace("RUN_S", run_s).replace("FAULTS", faults).replace("IN_FLIGHT", str(in_flight))
    (folder / "config.yaml").write_text(text)


def write_job(folder: Path) -> None:
    """A job of thirty rows, each with a canary in its prompt."""
    rows = [{"id": f"row-{n}", "text": f"The canary number {n} sings. It is yellow."} for n in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "job.yaml").write_text(_JOB)
    write_config(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job and a config."""
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """What a command may see: no key, no colours, nothing of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "COLUMNS": "80", "NO_COLOR": "1"}


@pytest.fixture
def command() -> list[str]:
    """``orchestrator``, in a process that starts in no time."""
    return [warm_python(), "-m", "orchestrator"]


@pytest.fixture
def process(tmp_path: Path, command: list[str], environment: dict[str, str]) -> Callable[..., Ended]:
    """Run a command to its end, in a process of its own."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        ended = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env={**environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def cli(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a command to its end in this process, which is quicker."""
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "executable", warm_python())  # of the embedded sandbox

    def run(*arguments: str, within: Path = tmp_path, env: Mapping[str, str] | None = None) -> Ended:
        monkeypatch.chdir(within)
        with monkeypatch.context() as changed:
            for name, value in (env or {}).items():
                changed.setenv(name, value)
            code = invoke(arguments)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run
