"""What every backend promises about run locks."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import RunBusy
from orchestrator.stores.base import Backend

from .builders import Harness, a_run

pytestmark = pytest.mark.anyio


async def test_a_run_is_locked_once(backend: Backend, harness: Harness) -> None:
    run = harness.run
    with backend.lock(run.id, run.name):
        assert backend.is_locked(run.id)
        with pytest.raises(RunBusy, match=run.name), backend.lock(run.id, run.name):
            pass
        assert backend.is_locked(run.id)
    assert not backend.is_locked(run.id)
    with backend.lock(run.id, run.name):
        assert backend.is_locked(run.id)


async def test_runs_are_locked_one_by_one(backend: Backend, harness: Harness) -> None:
    other = await harness.store.create_run(a_run("other"))
    with backend.lock(harness.run.id, "demo"):
        assert not backend.is_locked(other.id)
        with backend.lock(other.id, "other"):
            assert backend.is_locked(other.id)
        assert not backend.is_locked(other.id)
        assert backend.is_locked(harness.run.id)


async def test_an_error_ends_the_lock(backend: Backend, harness: Harness) -> None:
    with pytest.raises(KeyError), backend.lock(harness.run.id, "demo"):
        raise KeyError
    assert not backend.is_locked(harness.run.id)
