"""Every backend under the same contract: a new one joins ``DRIVERS``, and no test changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.stores.base import Backend, Reader, Store

from .builders import Harness, a_run
from .model import ModelBackend
from .sqlite.audit import audit
from .sqlite.new_database import new_database


@dataclass(frozen=True)
class Driver:
    """Creates an empty database in a folder; ``audit`` asserts that what was left there is consistent."""

    create: Callable[[Path], Backend]
    audit: Callable[[Path], object] = lambda _: None


DRIVERS = {
    "sqlite": Driver(lambda folder: new_database(folder / "runs.db"), lambda folder: audit(folder / "runs.db")),
    "model": Driver(lambda _: ModelBackend()),
    "postgres": Driver(lambda _: _postgres()),
}


def _postgres() -> Backend:
    from .postgres.new_schema import new_schema

    return new_schema()


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.services if name == "postgres" else ()) for name in DRIVERS]
)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture
def backend(driver: Driver, tmp_path: Path) -> Iterator[Backend]:
    yield driver.create(tmp_path)
    driver.audit(tmp_path)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with backend.open_store() as store:
        yield store


@pytest.fixture
async def reader(backend: Backend, store: Store) -> AsyncIterator[Reader]:
    async with backend.open_reader() as reader:
        yield reader


@pytest.fixture
async def harness(store: Store, reader: Reader) -> Harness:
    return Harness(store, reader, await store.create_run(a_run()))
