"""What all pages share: the runs that they read, the figures that are kept, and whether they may write."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from starlette.requests import Request

from orchestrator.app.run_browser import RunBrowser
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.reads import Run, Summary
from orchestrator.web.page_addresses import NUMBERED
from orchestrator.web.slow_figures import SlowFigures

__all__ = ["PAGE_WAIT_S", "SEARCH_S", "PageContext", "version_of"]

# How long a page searches, and waits for figures that scan a run; a page takes 100 ms at most.
SEARCH_S = 0.03
PAGE_WAIT_S = 0.04


@fast_dataclass
class PageContext:
    """One database and its pages."""

    browser: RunBrowser
    may_write: bool = False
    form_token: str = ""
    figures: SlowFigures = field(default_factory=SlowFigures)

    async def run_of(self, request: Request) -> Run:
        """The run that a path names."""
        return await self.run_named(request.path_params["run"])

    async def run_named(self, name: str) -> Run:
        """A run by its name, or by its number where the name cannot be a part of a path."""
        number = name.removeprefix(NUMBERED)
        if name.startswith(NUMBERED) and number.isascii() and number.isdigit() and len(number) <= 18:
            return await self.browser.run_by_id(int(number))
        return await self.browser.run(name)


def version_of(summary: Summary) -> Any:
    """What changes with anything that figures of a run are made of."""
    counts = tuple(sorted(summary.requests.items()))
    return summary.run.id, counts, summary.attempts, summary.cost_pusd, summary.cost_unknown
