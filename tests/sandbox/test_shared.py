"""One sandbox for all runs of one database."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx
import pytest

from orchestrator.core.errors import StoreError
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server import process
from orchestrator.sandbox.server.discovery import is_locked
from orchestrator.sandbox.server.process import embedded_sandbox
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from tests.warm import warm_python

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _starts_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", warm_python())


async def answers(base_url: str) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(base_url.removesuffix("/v1") + "/_ledger")).is_success
        except httpx.ConnectError:
            return False


async def ended(state: Path) -> None:
    with anyio.fail_after(20):
        while is_locked(state):  # noqa: ASYNC110 – a lock of another process wakes no event
            await anyio.sleep(0.01)


async def test_a_sandbox_lives_until_its_last_user_leaves(tmp_path: Path) -> None:
    state, said = tmp_path / "r.db.sandbox", list[str]()
    async with AsyncExitStack() as second:
        async with embedded_sandbox(SandboxSettings(), state) as mine:
            theirs = await second.enter_async_context(embedded_sandbox(SandboxSettings(), state, warn=said.append))
            assert theirs == mine
        assert await answers(mine.base_url)
    await ended(state)
    assert not await answers(mine.base_url)
    assert said == []
    assert not (tmp_path / "r.db.sandbox.address").exists()


async def test_a_user_who_leaves_first_ends_nothing(tmp_path: Path) -> None:
    state = tmp_path / "r.db.sandbox"
    async with embedded_sandbox(SandboxSettings(), state) as mine:
        async with embedded_sandbox(SandboxSettings(), state):
            pass
        assert await answers(mine.base_url)
    assert not is_locked(state)


async def test_other_settings_are_reported(tmp_path: Path) -> None:
    state, said = tmp_path / "r.db.sandbox", list[str]()
    async with (
        embedded_sandbox(SandboxSettings(seed=1), state),
        embedded_sandbox(SandboxSettings(seed=2), state, warn=said.append),
    ):
        assert said == ["the sandbox of another run on this database is used, with the settings of that run"]


async def test_two_that_start_at_once_share_one(tmp_path: Path) -> None:
    state, urls = tmp_path / "r.db.sandbox", list[str]()
    everyone_is_there = anyio.Event()

    async def use() -> None:
        async with embedded_sandbox(SandboxSettings(), state) as endpoint:
            urls.append(endpoint.base_url)
            if len(urls) == 3:
                everyone_is_there.set()
            await everyone_is_there.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(use)
    assert len(set(urls)) == 1


async def test_one_that_cannot_be_shared_is_named_and_then_waited_for(tmp_path: Path) -> None:
    state, warned = tmp_path / "r.db.sandbox", anyio.Event()
    said: list[str] = []

    def warn(message: str) -> None:
        said.append(message)
        warned.set()

    async def use() -> None:
        async with embedded_sandbox(SandboxSettings(), state, warn=warn) as endpoint:
            assert await answers(endpoint.base_url)

    async with anyio.create_task_group() as tasks:
        with SandboxDatabase(state):
            tasks.start_soon(use)
            await warned.wait()
    assert len(said) == 1
    assert f"waiting for {state}" in said[0]


async def test_one_that_stays_is_an_error_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FREE_WAIT_S", 0)
    state = tmp_path / "r.db.sandbox"
    with SandboxDatabase(state), pytest.raises(StoreError) as caught:
        async with embedded_sandbox(SandboxSettings(), state):
            pass
    assert "another sandbox works on the state file" in caught.value.message
    assert "--db" in str(caught.value.hint)


async def test_the_address_of_one_that_was_killed_is_no_address(tmp_path: Path) -> None:
    state = tmp_path / "r.db.sandbox"
    (tmp_path / "r.db.sandbox.address").write_text(
        '{"base_url": "http://127.0.0.1:9/v1", "api_key": "k", "settings": "", "pid": 1}'
    )
    async with embedded_sandbox(SandboxSettings(), state) as endpoint:
        assert await answers(endpoint.base_url)
