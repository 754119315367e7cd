"""The wheel in an environment of its own, in a folder where no clone is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_OURS = ("OPENAI_", "ORCHESTRATOR_", "PYTEST_", "PYTHON", "COV_", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it."""

    bin: Path

    def environ(self) -> dict[str, str]:
        """What a new user's shell has, the environment activated."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**kept, "PATH": f"{self.bin}{os.pathsep}{kept['PATH']}", "COLUMNS": "80"}


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it with all extras; skips where no package index is in reach."""
    folder = tmp_path_factory.mktemp("installed")
    _do(sys.executable, "-m", "venv", folder / "venv")
    pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _do(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheel", ROOT)
    [wheel] = (folder / "wheel").iterdir()
    assert wheel.name.startswith("responses_orchestrator-")
    _do(
        *pip,
        "install",
        f"{wheel}[all]",
        "pandas",
        "polars",
        "pyarrow",
        # With the extension of the same version, which DuckDB would download.
        "duckdb==1.5.5",
        "duckdb-extension-sqlite-scanner==1.5.5",
        "pytz",  # of DuckDB, for moments
        "datasette",
        "nbclient",
        "ipykernel",
    )
    return Installed(folder / "venv/bin")


def _do(*command: object) -> None:
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"the package could not be installed, so nothing was tried: {ended.stderr[-500:]}")


@pytest.fixture
def shell(installed: Installed, tmp_path: Path) -> Callable[..., Said]:
    """Run a command line in an empty folder."""

    def run(*command: str, **environ: str) -> Said:
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env={**installed.environ(), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Said(ended.returncode, ended.stdout, ended.stderr)

    return run
