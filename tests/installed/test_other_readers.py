"""The page about Datasette and DuckDB: its commands show the results of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import ROOT, Said

pytestmark = pytest.mark.services

Shell: TypeAlias = Callable[..., Said]
PAGE = (ROOT / "docs/how-to/datasette-and-duckdb.md").read_text()
DATABASE, EXPORT = re.findall(r'\$ duckdb -c "(.*)"', PAGE)
QUERY = (
    "import duckdb, json, sys; duckdb.execute(sys.argv[1]); print(json.dumps(duckdb.execute(sys.argv[2]).fetchall()))"
)

INSTALL = """\
import pathlib, duckdb, duckdb_extension_sqlite_scanner
[file] = pathlib.Path(duckdb_extension_sqlite_scanner.__file__).parent.rglob("*.duckdb_extension")
duckdb.execute(f"INSTALL '{file}'")
"""


@pytest.fixture
def run(shell: Shell) -> None:
    """A run of five messages under the name that the page has."""
    for command in ("init .", "run job.yaml --sandbox --run demo --db orchestrator.db --limit 5"):
        ended = shell("orchestrator", *command.split())
        assert ended.code == 0, ended.err


@pytest.mark.usefixtures("run")
def test_datasette_shows_the_results(shell: Shell) -> None:
    [command] = re.findall(r"\$ uvx (datasette .*)", PAGE)
    [path] = re.findall(r"Open `(/\S+)`", PAGE)
    ended = shell(*command.split(), "--get", f"{path}.json?_shape=array&_facet=state")
    assert ended.code == 0, ended.err
    assert {(row["run"], row["state"]) for row in json.loads(ended.out)} == {("demo", "succeeded")}


@pytest.mark.usefixtures("run")
def test_duckdb_reads_an_export(shell: Shell) -> None:
    assert "$ orchestrator export demo -o demo.parquet" in PAGE
    assert shell("orchestrator", "export", "demo", "-o", "demo.parquet").code == 0
    ended = shell("python", "-c", QUERY, "SELECT 1", EXPORT)
    assert ended.code == 0, ended.err
    [(state, rows, tokens)] = json.loads(ended.out)
    assert (state, rows) == ("succeeded", 5)
    assert tokens > 0


@pytest.mark.usefixtures("run")
def test_duckdb_reads_the_database(shell: Shell, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    installed = shell("python", "-c", INSTALL, **home)
    assert installed.code == 0, installed.err
    attach, query = DATABASE.split("; ")
    ended = shell("python", "-c", QUERY, attach, query, **home)
    assert ended.code == 0, ended.err
    [(model, rows)] = json.loads(ended.out)
    assert model.startswith("gpt-")
    assert rows == 5
    for view in ("attempts", "costs", "stages", "dataset_rows"):
        ended = shell("python", "-c", QUERY, attach, f"FROM runs.{view}", **home)
        assert ended.code == 0, (view, ended.err)
