"""The figures of a run as a stream: one event a second, read once for all pages that show the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from orchestrator.stores.reads import Run
from orchestrator.web.page_context import PageContext
from orchestrator.web.rendering import render
from orchestrator.web.run_pages import figures_of_run

__all__ = ["LiveFigures"]

_PERIOD_S = 1.0
# A comment every so often, so that a page that is gone is noticed.
_IDLE_PERIODS = 15


class LiveFigures:
    """Events for the pages of any run."""

    def __init__(self, view: PageContext) -> None:
        self._view = view
        self._latest: dict[int, tuple[float, bytes]] = {}

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """Yields an event whenever figures have changed, until the run is over; the last one says so."""
        sent, idle = b"", 0
        while True:
            event, is_over = await self._event(run)
            if event != sent:
                sent, idle = event, 0
                yield event
            elif (idle := idle + 1) % _IDLE_PERIODS == 0:
                yield b": still here\n\n"
            if is_over:
                yield b"event: over\ndata: {}\n\n"
                return
            clock = self._view.browser.clock
            await clock.sleep_until(clock.now() + _PERIOD_S)

    async def _event(self, run: Run) -> tuple[bytes, bool]:
        now = self._view.browser.clock.now()
        at, event = self._latest.get(run.id, (-1.0, b""))
        if now - at >= _PERIOD_S / 2:
            figures = await figures_of_run(self._view, run)
            event = _encoded(figures)
            self._latest = {run.id: (now, event), **{k: v for k, v in self._latest.items() if k != run.id}}
            while len(self._latest) > 20:
                self._latest.popitem()
        return event, b'"is_active":false' in event[:80]


def _encoded(figures: dict[str, Any]) -> bytes:
    html = render("run_figures.html", figures) + render("run_tokens.html", figures)
    # The sample has a time of its own each second; without a change it is no event.
    sample = figures["now"] if figures["is_active"] else {**figures["now"], "at": 0}
    return b"data: " + orjson.dumps({"is_active": figures["is_active"], "html": html, "now": sample}) + b"\n\n"
