"""A database of an older version: what writes upgrades it, and what reads leaves it alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.migrations import migrations

from .conftest import Ended

Cli: TypeAlias = Callable[..., Ended]


@pytest.fixture
def old(folder: Path) -> Path:
    """A database as the version before this one left it, without a run."""
    path = folder / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, migrations()[:-1], path=path)
    return path


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize(
    "command", [["retry"], ["cancel"], ["remove", "--yes"], ["purge"], ["resume"]], ids=lambda command: command[0]
)
def test_a_command_that_writes_upgrades_it(old: Path, cli: Cli, command: list[str]) -> None:
    ended = cli(*command, "greet-1", "--config", "config.yaml")
    assert "runs.db has no run named 'greet-1'" in ended.err
    assert version_of(old) == len(migrations())


@pytest.mark.parametrize(
    "command", [["status", "greet-1"], ["runs"], ["export", "greet-1"]], ids=lambda command: command[0]
)
def test_a_command_that_reads_names_one_that_upgrades_it(old: Path, cli: Cli, command: list[str]) -> None:
    ended = cli(*command, "--config", "config.yaml")
    assert ended.code == 5
    assert "upgrade it with any command that writes" in ended.err
    assert version_of(old) == len(migrations()) - 1


def test_a_command_that_writes_makes_no_database(folder: Path, cli: Cli) -> None:
    ended = cli("retry", "greet-1", "--config", "config.yaml")
    assert "there is no such database" in ended.err
    assert not (folder / "runs.db").exists()
