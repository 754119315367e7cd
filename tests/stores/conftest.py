"""Each store under the same contract: a new implementation joins the list of parameters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.stores.base import Reader, Store
from orchestrator.stores.sqlite import SqliteReader, SqliteStore

from .builders import Desk, a_run


@pytest.fixture(params=[(SqliteStore, SqliteReader)], ids=["sqlite"])
def kinds(request: pytest.FixtureRequest) -> tuple[type[SqliteStore], type[SqliteReader]]:
    kinds: tuple[type[SqliteStore], type[SqliteReader]] = request.param
    return kinds


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def store(kinds: tuple[type[SqliteStore], type[SqliteReader]], database: Path) -> AsyncIterator[Store]:
    async with kinds[0].open(database) as store:
        yield store


@pytest.fixture
async def reader(
    kinds: tuple[type[SqliteStore], type[SqliteReader]], store: Store, database: Path
) -> AsyncIterator[Reader]:
    async with kinds[1].open(database) as reader:
        yield reader


@pytest.fixture
async def desk(store: Store, reader: Reader) -> Desk:
    return Desk(store, reader, await store.create_run(a_run()))
