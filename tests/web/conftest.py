"""Pages over a real database, called without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.stores.sqlite.store import SqliteStore
from orchestrator.testing import FakeClock
from orchestrator.web.access import COOKIE
from orchestrator.web.application import create_view
from orchestrator.web.page_context import PageContext
from tests.stores.builders import NOW, Harness, a_charge, a_run
from tests.stores.sqlite.new_database import new_database

TOKEN = "a-token-that-is-in-the-printed-address"
FORM_TOKEN = "a-token-that-is-in-each-form"
BASE = "http://127.0.0.1:8765"
SPEC = (
    '{"name": "summarise", "input": {"path": "rows.jsonl", "key": "id"}, '
    '"request": {"model": "gpt-5-mini", "input": "Summarise: {{ text }}"}}'
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    new_database(tmp_path / "runs.db")
    return tmp_path / "runs.db"


@pytest.fixture
async def harness(database: Path) -> AsyncIterator[Harness]:
    """A run with the writer that fills it, as another process would."""
    async with SqliteStore.open(database, synchronous="NORMAL") as store, RunBrowser.open(database) as browser:
        yield Harness(store, browser.quick, await store.create_run(a_run(spec_json=SPEC)))


@asynccontextmanager
async def visitor(
    database: Path | str, *, may_write: bool = False, token: str | None = TOKEN, hosts: frozenset[str] = frozenset()
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the pages, with the cookie unless there is no ``token``."""
    async with RunBrowser.open(database, clock=FakeClock(NOW + 100)) as browser:
        view = PageContext(browser=browser, may_write=may_write, form_token=FORM_TOKEN)
        application = create_view(view, token=TOKEN, hosts=hosts)
        transport = httpx.ASGITransport(application, raise_app_exceptions=True)
        cookies = {} if token is None else {COOKIE: token}
        async with httpx.AsyncClient(transport=transport, base_url=BASE, cookies=cookies) as client:
            yield client
        await view.figures.aclose()


@pytest.fixture
async def client(database: Path, harness: Harness) -> AsyncIterator[httpx.AsyncClient]:
    """A reader of the pages of the harness's database."""
    async with visitor(database) as client:
        yield client


async def fill(harness: Harness, *, rows: int = 6) -> None:
    """Rows that succeeded, one that failed, one that is open and one that waits."""
    first, second, *rest = await harness.add(rows)
    await harness.fail(first, code="refusal", message="it does not want to", charge=a_charge(3_000))
    await harness.submit(second)
    for row in rest[:-1]:
        await harness.succeed(row, output_text=f"The answer to {row.key}", charge=a_charge(), model="gpt-5-mini")
