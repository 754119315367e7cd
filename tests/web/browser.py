"""A real browser, and the view as a process that it can call; tests without a browser are skipped, and say so."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["NEEDS_BROWSER", "Visit", "opening", "serving", "visiting"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="NO BROWSER: install Debian's chromium and the extra `browser`; nothing of the web view was tried in one",
)


@dataclass
class Visit:
    """A page, and what must not happen on it: dialogs, requests to elsewhere, violations of its policy, errors."""

    page: Page
    base: str
    dialogs: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page of the view."""
        self.page.goto(self.base + path, wait_until="load")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something on the page; playwright's own way needs ``eval``, which the policy forbids."""
        for _ in range(400):
            if holds():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not come in 20 seconds")

    def assert_quiet(self) -> None:
        """Nothing ran, nothing was asked elsewhere, nothing was refused."""
        assert (self.dialogs, self.foreign, self.complaints) == ([], [], [])


@contextmanager
def serving(database: Path, *options: str) -> Iterator[str]:
    """The command in a process of its own; yields the address with its token."""
    command = [sys.executable, "-m", "orchestrator", "view", "--no-browser", "--db", str(database), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


@contextmanager
def visiting(address: str, *, scheme: Literal["light", "dark"] = "light", width: int = 1280) -> Iterator[Visit]:
    """A browser that has the cookie of the view."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        page = context.new_page()
        page.set_default_timeout(20_000)
        visit = Visit(page, address.partition("/?")[0].partition("/run/")[0])
        _watch(visit)
        page.goto(address)
        try:
            yield visit
        finally:
            context.close()
            browser.close()


@contextmanager
def opening(file: Path, *, scheme: str = "light", width: int = 1280) -> Iterator[Visit]:
    """A file in a browser that has no network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        chosen: Any = scheme
        context = browser.new_context(color_scheme=chosen, viewport={"width": width, "height": 800}, offline=True)
        visit = Visit(context.new_page(), file.as_uri())
        _watch(visit)
        visit.page.goto(visit.base)
        try:
            yield visit
        finally:
            context.close()
            browser.close()


def _watch(visit: Visit) -> None:
    def on_dialog(dialog: Any) -> None:
        visit.dialogs.append(dialog.message)
        dialog.dismiss()

    def on_request(request: Any) -> None:
        if not request.url.startswith((visit.base, "data:")):
            visit.foreign.append(request.url)

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            visit.complaints.append(message.text)

    visit.page.on("dialog", on_dialog)
    visit.page.on("request", on_request)
    visit.page.on("console", on_console)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
