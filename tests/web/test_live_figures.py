"""Figures that change without a reload, and figures that are computed beside the pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.states import RunState
from orchestrator.testing import FakeClock
from orchestrator.web.live_figures import LiveFigures
from orchestrator.web.page_context import PageContext
from orchestrator.web.slow_figures import SlowFigures
from tests.stores.builders import NOW, Harness

from .conftest import fill

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(harness: Harness, database: Any) -> AsyncIterator[PageContext]:
    async with RunBrowser.open(database, clock=FakeClock(NOW)) as browser:
        yield PageContext(browser=browser)


def figures(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    found: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return found


async def test_an_event_has_the_figures_as_a_page_shows_them(harness: Harness, context: PageContext) -> None:
    await fill(harness)
    events = LiveFigures(context).events(harness.run)
    first = figures(await anext(events))
    assert first["now"]["settled"] == 4
    assert 'data-live="settled"' in first["html"]
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_run_that_is_over_ends_the_stream(harness: Harness, context: PageContext) -> None:
    await fill(harness)
    await harness.store.set_run_state(harness.run.id, RunState.FINISHED, None, NOW)
    events = [event async for event in LiveFigures(context).events(harness.run)]
    assert len(events) == 2
    assert figures(events[0])["is_active"] is False
    assert events[1].startswith(b"event: over")


async def test_an_active_run_is_followed_until_its_process_ends(
    harness: Harness, context: PageContext, database: Any
) -> None:
    from orchestrator.stores.sqlite.backend import SqliteBackend

    clock = context.browser.clock
    assert isinstance(clock, FakeClock)
    rows = await harness.add(3)
    seen = []
    with SqliteBackend(database).lock(harness.run.id, harness.run.name):
        events = LiveFigures(context).events(harness.run)
        seen.append(figures(await anext(events)))
        for row in rows:
            await harness.succeed(row)
            waiting = asyncio.ensure_future(anext(events))
            await clock.advance_to_next()
            seen.append(figures(await waiting))
    assert [each["now"]["settled"] for each in seen] == [0, 1, 2, 3]
    assert all(each["is_active"] for each in seen)
    waiting = asyncio.ensure_future(anext(events))
    await clock.advance_to_next()
    assert figures(await waiting)["is_active"] is False
    assert (await anext(events)).startswith(b"event: over")


async def test_pages_of_one_run_share_what_is_read(harness: Harness, context: PageContext) -> None:
    await fill(harness)
    reads = 0
    summary = context.browser.quick.summary

    async def counted(run_id: int) -> Any:
        nonlocal reads
        reads += 1
        return await summary(run_id)

    context.browser.quick.summary = counted  # type: ignore[method-assign]
    live = LiveFigures(context)
    for _ in range(5):
        await anext(live.events(harness.run))
    assert reads == 1


# ── figures that take long ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_page_does_not_wait_for_a_long_sum_and_shows_it_later() -> None:
    kept, ready = SlowFigures(), asyncio.Event()

    async def sum_up() -> str:
        await ready.wait()
        return "sum"

    early = await kept.get("a", 1, sum_up, within_s=0.0)
    assert (early.value, early.is_current) == (None, False)
    ready.set()
    late = await kept.get("a", 1, sum_up, within_s=None)
    assert (late.value, late.is_current) == ("sum", True)


async def test_a_sum_is_computed_once_for_each_version() -> None:
    kept, made = SlowFigures(), []

    async def sum_up() -> int:
        made.append(1)
        return len(made)

    for version in (1, 1, 2, 2, 1):
        found = await kept.get("a", version, sum_up, within_s=None)
        assert found.is_current
    assert len(made) == 3


async def test_an_older_sum_is_shown_while_the_next_is_computed() -> None:
    kept, ready = SlowFigures(), asyncio.Event()

    async def first() -> str:
        return "first"

    async def second() -> str:
        await ready.wait()
        return "second"

    assert (await kept.get("a", 1, first, within_s=None)).value == "first"
    meanwhile = await kept.get("a", 2, second, within_s=0.0)
    assert (meanwhile.value, meanwhile.is_current) == ("first", False)
    ready.set()
    assert (await kept.get("a", 2, second, within_s=None)).value == "second"


async def test_a_sum_that_fails_is_tried_again() -> None:
    kept, tried = SlowFigures(), []

    async def sum_up() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise LookupError("gone")
        return "sum"

    with pytest.raises(LookupError):
        await kept.get("a", 1, sum_up, within_s=None)
    assert (await kept.get("a", 1, sum_up, within_s=None)).value == "sum"


async def test_only_so_many_sums_are_kept_and_an_end_stops_all() -> None:
    kept = SlowFigures()

    async def endless() -> None:
        await asyncio.Event().wait()

    for name in range(100):
        await kept.get(name, 1, endless, within_s=0.0)
    assert len(kept._entries) <= 40
    await kept.aclose()
    assert all(entry.work is None or entry.work.done() for entry in kept._entries.values())
