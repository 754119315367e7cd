"""What a short command imports, and what it leaves: the time until its first line is the time of its imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.warm import warm_python

from .conftest import RUN

Imported: TypeAlias = Callable[..., set[str]]

# Slow to import, and of use to few commands.
_HEAVY = {
    "altair",
    "apprise",
    "duckdb",
    "httpx",
    "httpx2",
    "jsonschema",
    "numpy",
    "openai",
    "openpyxl",
    "orchestrator.sandbox.validation",
    "orchestrator.stores.postgres",
    "orchestrator.web",
    "pandas",
    "polars",
    "psycopg",
    "pyarrow",
    "requests",
    "starlette",
    "tiktoken",
    "toktok",
    "uvicorn",
}
# Of use to a run, and not to a command that reads.
_OF_RUNS = {"genai_prices", "jinja2", "pydantic", "ruamel", "structlog"}
_OF_READERS = {"asyncio", "orchestrator.app", "orchestrator.stores.sqlite", "uvloop"}
_SCRIPT = """\
import pathlib, sys
from orchestrator.__main__ import main
sys.executable = sys.argv.pop(1)
try:
    main()
finally:
    pathlib.Path("modules.txt").write_text("\\n".join(sys.modules))
"""


@pytest.fixture
def imported(folder: Path, environment: dict[str, str]) -> Imported:
    """The modules that a command has imported when it ends."""

    def run(*arguments: str) -> set[str]:
        command = [sys.executable, "-c", _SCRIPT, warm_python(), *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return set((folder / "modules.txt").read_text().splitlines())

    return run


def test_a_run_imports_no_library_of_other_inputs_tables_or_pages(imported: Imported) -> None:
    modules = imported(*RUN, "--run", "few")
    assert modules >= _OF_RUNS
    assert modules & _HEAVY == set()
    modules = imported("status", "few", "--db", "runs.db")
    assert modules >= _OF_READERS
    assert modules & (_HEAVY | _OF_RUNS) == set()
