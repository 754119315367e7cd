"""``python -m docs.screenshots FOLDER``: pictures of the web view and of reports, of sandbox runs that it makes.

It needs Debian's chromium (or another one) and the extras ``browser`` and ``report``. Each page is taken in light, in
dark and on a narrow screen, so that a change of the design can be looked through in a minute. With ``--pictures``
before the folder, only the two pictures of the README are taken.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from docs.generator.pages import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["main"]

Scheme: TypeAlias = Literal["light", "dark"]

_SHAPES: tuple[tuple[Scheme, int], ...] = (("light", 1280), ("dark", 1280), ("light", 400))
_RUN = "speeches-2"
_PAGES = {
    "runs": "/",
    "run": f"/run/{_RUN}",
    "rows": f"/run/{_RUN}/rows",
    "rows-failed": f"/run/{_RUN}/rows?state=failed",
    "rows-none": f"/run/{_RUN}/rows?q=no+row+has+this",
    "costs": f"/run/{_RUN}/costs?by=model,state",
    "stages": "/run/digest/stages",
    "dataset": "/dataset?name=reviews",
    "compare": f"/compare?a=speeches-1&b={_RUN}&only=answers",
    "compare-choice": f"/compare?a={_RUN}",
    "run-empty": "/run/empty",
    "run-in-doubt": "/run/in-doubt",
    "run-over-budget": "/run/over-budget",
    "error": "/run/none",
}
_REPORTED = (_RUN, "digest", "reviews", "in-doubt", "over-budget", "empty")
_SANDBOX = {"seed": 1, "latency": {"queue": 0.1, "run": {"median_s": 0.6, "sigma": 0.4}}}
_FAULTS = {"refusal": 0.04, "incomplete": 0.03, "rate_limited": 0.02, "server_error": 0.02}


def main() -> None:
    """Makes runs, serves them, and takes a picture of each page in each shape."""
    few, names = "--pictures" in sys.argv, [each for each in sys.argv[1:] if each != "--pictures"]
    if len(names) != 1:
        sys.exit("usage: python -m docs.screenshots [--pictures] FOLDER")
    target = Path(names[0])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_runs(folder, few=few)
        reports = _make_reports(folder, (_RUN,) if few else _REPORTED)
        with _live_run(folder), _serving(folder) as address, _browser() as browser:
            # The run that is shown live needs something to show.
            _page(browser, address, "light", 400).wait_for_timeout(12_000)
            if few:
                _take_pictures(browser, address, reports[_RUN], target)
            else:
                _take_all(browser, address, target)
                _take_reports(browser, reports, target)


@contextmanager
def _browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _take_pictures(browser: Browser, address: str, report: Path, target: Path) -> None:
    """The two pictures of the README, small enough for a repository."""
    page = _page(browser, address, "light", 1100)
    page.set_viewport_size({"width": 1100, "height": 700})
    page.goto(address.partition("/?")[0] + "/run/live")
    page.wait_for_timeout(2_500)
    page.screenshot(path=target / "view.png")
    page.goto(report.as_uri())
    page.screenshot(path=target / "report.png")


def _take_reports(browser: Browser, reports: Mapping[str, Path], target: Path) -> None:
    for scheme, width in _SHAPES:
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 820}).new_page()
        for name, file in reports.items():
            page.goto(file.as_uri())
            page.screenshot(path=target / f"report-{name}-{scheme}-{width}.png", full_page=True)


def _take_all(browser: Browser, address: str, target: Path) -> None:
    for scheme, width in _SHAPES:
        page = _page(browser, address, scheme, width)
        for name, path in {"run-live": "/run/live", **_PAGES, "row": _row(page, address)}.items():
            page.goto(address.partition("/?")[0] + path)
            page.wait_for_timeout(2_500 if name == "run-live" else 400)
            page.screenshot(path=target / f"{name}-{scheme}-{width}.png", full_page=width > 400)


def _page(browser: Browser, address: str, scheme: Scheme, width: int) -> Page:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 820})
    page = context.new_page()
    page.goto(address)
    return page


def _row(page: Page, address: str) -> str:
    """The page of a row that was tried twice."""
    page.goto(address.partition("/?")[0] + f"/run/{_RUN}/rows?state=failed")
    return str(page.locator("#rows a.row").first.get_attribute("href"))


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _make_runs(folder: Path, *, few: bool = False) -> None:
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    _config(folder, "config", faults=_FAULTS)
    _config(folder, "lossy", faults={"drop_after": 1}, in_doubt={"resend_below_usd": 0})
    summarise = ("jobs/summarise.yaml", "--limit", "300")
    _run(folder, _RUN, *summarise)
    if few:
        return
    _run(folder, "speeches-1", *summarise, "--set", "request.model=gpt-6-luna")
    _run(folder, "in-doubt", "jobs/classify.yaml", "--limit", "6", config="lossy")
    _run(folder, "over-budget", *summarise, "--set", "budget.usd=0.2")
    _run(folder, "digest", "jobs/press-digest.yaml", "--limit", "30")
    (folder / "jobs" / "none.jsonl").write_text("")
    _run(folder, "empty", _job(folder, "empty", {"input": {"path": "none.jsonl", "may_be_empty": True}}))
    for night in range(3):
        texts = {n: f"Review number {n}: {'changed' if n % 7 == night else 'good'}." for n in range(60 + 9 * night)}
        rows = [{"id": f"r{n}", "text": text} for n, text in texts.items()]
        (folder / "jobs" / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        reviews = {"input": {"path": "reviews.jsonl", "key": "id"}, "increments": {}}
        _run(folder, f"reviews-{night + 1}", _job(folder, "reviews", reviews))


def _job(folder: Path, name: str, fields: Mapping[str, Any]) -> str:
    """A job file, which is JSON and so YAML too."""
    request = {"model": "gpt-6-luna", "input": "Name the mood in one word: {{ text }}", "max_output_tokens": 300}
    file = folder / "jobs" / f"{name}.yaml"
    file.write_text(json.dumps({"name": name, "request": request, **fields}))
    return str(file)


def _config(folder: Path, name: str, *, faults: Mapping[str, float], slower: float = 1.0, **more: Any) -> None:
    latency = {"queue": 0.1 * slower, "run": {"median_s": 0.6 * slower, "sigma": 0.4}}
    sandbox = {**_SANDBOX, "latency": latency, "faults": faults}
    limits = {"max_in_flight": 40, "polls_per_minute": 24_000}
    config = {"provider": {"sandbox": sandbox}, "limits": limits, "database": "runs.db", **more}
    (folder / f"{name}.yaml").write_text(json.dumps(config))


def _run(folder: Path, name: str, job: str, *options: str, config: str = "config") -> None:
    command = [sys.executable, "-m", "orchestrator", "run", job, "--run", name, "--config", f"{config}.yaml"]
    # Some are meant to fail or to halt.
    subprocess.run(  # noqa: S603  # our own command
        [*command, *options, "-o", f"{name}.jsonl", "--progress", "none", "--new"],
        cwd=folder,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _make_reports(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    files = {name: folder / f"report-{name}.html" for name in names}
    for name, file in files.items():
        command = [sys.executable, "-m", "orchestrator", "report", name, "--db", "runs.db", "-o", str(file)]
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)  # noqa: S603  # our own command
    return files


@contextmanager
def _live_run(folder: Path) -> Iterator[None]:
    """A run that lasts while the pictures are taken."""
    _config(folder, "slow", faults=_FAULTS, slower=4.0)
    command = [sys.executable, "-m", "orchestrator", "run", "jobs/summarise.yaml", "--run", "live"]
    with subprocess.Popen(  # noqa: S603  # our own command
        [*command, "--config", "slow.yaml", "--progress", "none", "--limit", "1200", "-o", "live.jsonl"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """The web view of the runs; yields its address with the token."""
    command = [sys.executable, "-m", "orchestrator", "view", "--no-browser", "--control", "--db", "runs.db"]
    with subprocess.Popen(  # noqa: S603  # our own command
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
