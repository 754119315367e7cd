"""The command line as a user has it: a process of its own, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_OURS = ("OPENAI_", "ORCHESTRATOR_", "PYTEST_", "COV_")


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def environment() -> dict[str, str]:
    """What a command may see: no key, no colours, nothing of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def command() -> list[str]:
    """``orchestrator``, with the interpreter that runs the tests."""
    return [sys.executable, "-m", "orchestrator"]


@pytest.fixture
def cli(tmp_path: Path, command: list[str], environment: dict[str, str]) -> Callable[..., Ended]:
    """Run a command to its end."""

    def run(*arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
        ended = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env={**environment, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run
