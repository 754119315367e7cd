"""A real store in a file, for the parts of the engine that read and write one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.stores.sqlite.backend import SqliteBackend
from tests.stores.builders import a_run

from .builders import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    backend = SqliteBackend(tmp_path / "runs.db", synchronous="NORMAL")
    async with backend.open_store() as store, backend.open_reader() as reader:
        yield Rig(store, reader, await store.create_run(a_run()))
