"""What only the SQLite driver promises: its file, its writer, its SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.stores.base import Backend
from orchestrator.stores.sqlite.backend import SqliteBackend


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def backend(database: Path) -> Backend:
    return SqliteBackend(database, synchronous="NORMAL")
