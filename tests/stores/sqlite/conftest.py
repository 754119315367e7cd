"""What only the SQLite driver promises: its file, its writer, its SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.stores.base import Backend

from .new_database import new_database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def backend(database: Path) -> Backend:
    return new_database(database)
