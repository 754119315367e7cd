"""Removing a run forgets no table."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from .new_database import new_database

# The prices and files of all runs, and what outlives them.
SHARED = {"price", "upload", "dataset", "memory", "removed_spending"}
# Its answers belong to a dataset: a run that has any is not removed.
OF_DATASETS = {"entry"}


def test_every_table_that_belongs_to_a_run_is_cleared(tmp_path: Path) -> None:
    new_database(tmp_path / "r.db")
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    sql = resources.files("orchestrator.stores.sql").joinpath("statements/removal.sql").read_text(encoding="utf-8")
    cleared = set(re.findall(r"^DELETE FROM (\w+)", sql, re.MULTILINE))
    assert tables - SHARED - OF_DATASETS - cleared == set()
