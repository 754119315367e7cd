"""The view in a real browser: what moves, what is kept, what must never happen, and whether it can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from .browser import NEEDS_BROWSER, Visit, opening, serving, visiting
from .gallery import HOSTILE_RUN, write_gallery

# The least ratio between text and its ground (WCAG 2.2, AA), of each text on the page that is not disabled.
CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = (colour, over) => {
    canvas.fillStyle = `rgb(${over})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const ground = (node) => {
    const chain = [];
    for (let each = node; each; each = each.parentElement) chain.unshift(getComputedStyle(each).backgroundColor);
    return chain.reduce((over, colour) => parse(colour, over), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, style = getComputedStyle(node);
    if (!walk.currentNode.data.trim() || !node.getClientRects().length) continue;
    if (node.closest('svg, .skip, :disabled')) continue;
    const under = ground(node), ink = parse(style.color, under);
    const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if (ratio < enough) faint.push(`${walk.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}
"""

pytestmark = [pytest.mark.services, NEEDS_BROWSER]

PAGES = (
    "/",
    "/run/mixed",
    "/run/mixed/rows",
    "/run/mixed/rows?state=failed&q=nothing+has+this",
    "/run/mixed/row/row-1",
    "/run/mixed/row/row-2",
    "/run/mixed/costs",
    "/run/mixed/stages",
    "/run/staged/stages",
    "/run/empty",
    "/run/empty/rows",
    "/run/doubt",
    "/run/failed",
    "/run/failed/rows",
    "/compare?a=mixed&b=second",
    "/compare?a=mixed",
    "/run/none",
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind."""
    file = tmp_path_factory.mktemp("view") / "runs.db"
    write_gallery(file)
    return file


@pytest.fixture
def visit(database: Path) -> Iterator[Visit]:
    with serving(database) as address, visiting(address) as visit:
        yield visit


@contextmanager
def running(folder: Path, *, rows: int, run_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A run of a sandbox, in a process of its own."""
    lines = (json.dumps({"id": f"row-{n}", "text": f"The canary number {n} sings."}) + "\n" for n in range(rows))
    (folder / "rows.jsonl").write_text("".join(lines))
    (folder / "job.yaml").write_text(
        'name: greet\ninput: {path: rows.jsonl, key: id}\nrequest: {model: gpt-5-mini, input: "{{ text }}"}\n'
    )
    (folder / "config.yaml").write_text(
        f"provider: {{sandbox: {{seed: 1, latency: {{queue: 0, run: {run_s}}}}}}}\n"
        "limits: {max_in_flight: 10}\ndatabase: runs.db\n"
    )
    command = [sys.executable, "-m", "orchestrator", "run", "job.yaml", "--config", "config.yaml", "--run", "live"]
    with subprocess.Popen(
        [*command, "--progress", "none"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=30)


def settled(visit: Visit) -> int:
    text = visit.page.locator('[data-live="settled"] dd').inner_text()
    found = re.match(r"[\d,]+", text)
    assert found is not None
    return int(found[0].replace(",", ""))


def shown_key(visit: Visit) -> str:
    return str(visit.page.locator("h2.key").inner_text())


def test_figures_change_without_a_reload_while_a_run_is_worked_on(tmp_path: Path) -> None:
    with running(tmp_path, rows=400, run_s=0.7) as process:
        _until_run(tmp_path)
        with serving(tmp_path / "runs.db") as address, visiting(address) as visit:
            visit.go("/run/live")
            visit.page.evaluate("window.loadedOnce = true")
            first = settled(visit)
            visit.until(lambda: settled(visit) > first + 5)
            assert visit.page.evaluate("window.loadedOnce") is True
            visit.page.locator("#charts canvas").first.wait_for()
            process.wait(timeout=120)
            # The end of the run is shown as well, by loading the page once more.
            visit.page.locator(".head .state.finished").wait_for()
            assert settled(visit) == 400
            visit.assert_quiet()


def _until_run(folder: Path) -> None:
    import sqlite3
    import time

    for _ in range(600):
        try:
            with sqlite3.connect(f"file:{folder / 'runs.db'}?mode=ro", uri=True) as connection:
                if connection.execute("SELECT count(*) FROM request").fetchone()[0]:
                    return
        except sqlite3.Error:
            pass
        time.sleep(0.1)
    raise AssertionError("the run did not begin")


def test_a_filter_is_kept_over_open_next_and_back(visit: Visit) -> None:
    page = visit.page
    visit.go("/run/mixed/rows")
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/rows?*state=failed*")
    keys = page.locator("#rows a.row").all_inner_texts()
    assert len(keys) == 24
    page.locator("#rows a.row").first.click()
    assert page.locator("h2.key").inner_text() == keys[0]
    for key in keys[1:4]:
        page.locator(".steps a[rel=next]").click()
        visit.page.locator("h2.key").get_by_text(key, exact=True).wait_for()
        assert "state=failed" in page.url
    page.locator(".steps a[rel=prev]").click()
    visit.until(lambda: shown_key(visit) == keys[2])
    for _ in range(5):
        page.go_back()
    page.wait_for_url("**/rows?*state=failed*")
    assert page.locator("#rows a.row").all_inner_texts() == keys
    visit.assert_quiet()


def test_keys_of_the_keyboard_move_in_a_list_and_between_rows(visit: Visit) -> None:
    visit.go("/run/mixed/rows?state=failed")
    for key in ("j", "j", "j", "k"):
        visit.page.keyboard.press(key)
    second = visit.page.locator("#rows a.row").nth(1).inner_text()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**/row/**")
    assert visit.page.locator("h2.key").inner_text() == second
    visit.page.keyboard.press("j")
    visit.until(lambda: shown_key(visit) != second)
    visit.assert_quiet()


def test_pages_of_rows_go_forward_and_back(visit: Visit) -> None:
    page = visit.page
    visit.go("/run/mixed/rows")
    first = page.locator("#rows a.row").all_inner_texts()
    page.get_by_role("link", name="Later").click()
    page.wait_for_url("**after=**")
    second = page.locator("#rows a.row").all_inner_texts()
    assert len({*first, *second}) == 100
    page.get_by_role("link", name="Earlier").click()
    page.wait_for_url("**before=**")
    assert page.locator("#rows a.row").all_inner_texts() == first
    visit.assert_quiet()


def test_two_runs_that_are_ticked_are_compared(visit: Visit) -> None:
    page = visit.page
    visit.go("/")
    button = page.get_by_role("button", name="Compare two runs")
    assert button.is_disabled()
    for name in ("mixed", "second"):
        page.get_by_label(f"Compare {name}", exact=True).check()
    button.click()
    page.wait_for_url("**/compare?a=mixed&b=second")
    assert page.locator("article.pair").count() == 10
    assert "yellow" in page.locator("del").all_inner_texts()[0] or page.locator("ins").count()
    page.get_by_label("Rows", exact=True).select_option("outcomes")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**only=outcomes**")
    visit.assert_quiet()


def test_a_flag_survives_a_restart(database: Path) -> None:
    with serving(database, "--control") as address, visiting(address) as visit:
        visit.go("/run/mixed/row/row-7")
        visit.page.get_by_label("Flag", exact=True).fill("look again")
        visit.page.get_by_label("Note").fill("The date is <b>odd</b>.")
        visit.page.get_by_role("button", name="Save").click()
        visit.page.locator("p.note").wait_for()
        visit.assert_quiet()
    with serving(database) as address, visiting(address) as visit:
        visit.go("/run/mixed/rows?flag=look+again")
        visit.page.locator("#rows a.row").click()
        assert visit.page.locator("p.note").inner_text() == "The date is <b>odd</b>."
        assert visit.page.locator("form.flagform").count() == 0
        visit.assert_quiet()


def test_hostile_texts_do_nothing_anywhere(database: Path) -> None:
    with serving(database, "--control") as address, visiting(address) as visit:
        page = visit.page
        hostile = page.locator("td.name a", has_text="alert(1)").first.get_attribute("href")
        assert hostile is not None
        visit.go(f"{hostile}/rows")
        paths = [str(link.get_attribute("href")) for link in page.locator("#rows a.row").all()]
        assert len(paths) == 20
        run = hostile.removeprefix("/run/")
        others = (
            hostile,
            f"{hostile}/costs",
            f"{hostile}/stages",
            f"/compare?a={run}&b=mixed",
            f"/compare?a=mixed&b={run}",
        )
        for path in (*paths, *others):
            visit.go(path)
            title = page.title()
            assert title.endswith("· orchestrator")
            assert page.locator("a.brand").is_visible()
            assert page.evaluate("document.querySelectorAll('main script, main img, main iframe, base').length") == 0
        # The page of the five-megabyte key is still a page: its links lead on.
        visit.go(paths[-1])
        page.locator(".steps a[rel=prev]").click()
        page.wait_for_url(lambda url: not url.endswith(paths[-1]))
        visit.assert_quiet()


def test_an_answer_of_markup_is_text_when_it_is_opened_alone(database: Path) -> None:
    with serving(database) as address, visiting(address) as visit:
        hostile = visit.page.locator("td.name a", has_text="alert(1)").first.get_attribute("href")
        visit.go(f"{hostile}/rows?q=onerror")
        visit.page.locator("#rows a.row").first.click()
        visit.page.get_by_role("link", name="As plain text").click()
        visit.page.wait_for_url("**/answer?**")
        assert "<img src=x onerror=alert(1)>" in visit.page.locator("body").inner_text()
        assert (visit.dialogs, visit.foreign) == ([], [])


def test_a_call_without_the_cookie_or_from_elsewhere_is_refused(visit: Visit) -> None:
    import httpx

    assert httpx.get(visit.base).status_code == 403
    assert httpx.get(visit.base, headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(database: Path, scheme: Literal["light", "dark"]) -> None:
    with serving(database, "--control") as address, visiting(address, scheme=scheme) as visit:
        faint: dict[str, Any] = {}
        for path in PAGES:
            visit.go(path)
            if found := visit.page.evaluate(CONTRAST):
                faint[path] = found
        assert faint == {}


@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_is_wider_than_the_window(database: Path, width: int) -> None:
    with serving(database, "--control") as address, visiting(address, width=width) as visit:
        wide = []
        for path in PAGES:
            visit.go(path)
            if visit.page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(path)
        assert wide == []


def test_every_page_works_without_script(database: Path) -> None:
    from playwright.sync_api import sync_playwright

    from .browser import CHROMIUM

    with serving(database) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(address)
        page.get_by_role("link", name="mixed", exact=True).click()
        page.get_by_role("link", name="Rows", exact=True).click()
        page.get_by_label("State").select_option("failed")
        page.get_by_role("button", name="Filter").click()
        page.locator("#rows a.row").first.click()
        page.get_by_role("link", name="Next").click()
        assert "state=failed" in page.url
        browser.close()


@pytest.mark.parametrize("name", ["mixed", "empty", "doubt", "failed", HOSTILE_RUN])
def test_a_report_opens_from_a_file_without_a_network(database: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "report.html"
    command = [sys.executable, "-m", "orchestrator", "report", name, "--db", str(database), "-o", str(file)]
    subprocess.run([*command, "--with-texts"], check=True, stderr=subprocess.DEVNULL)
    assert file.stat().st_size < 500_000
    for scheme in ("light", "dark"):
        with opening(file, scheme=scheme) as visit:
            assert visit.page.title().endswith("· orchestrator report")
            assert visit.page.evaluate("document.querySelectorAll('script, img, iframe, link, base').length") == 0
            assert visit.page.evaluate(CONTRAST) == []
            visit.assert_quiet()
    with opening(file, width=400) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
        # On paper it is as wide as A4 without its margins.
        visit.page.emulate_media(media="print")
        visit.page.set_viewport_size({"width": 703, "height": 1000})
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 703
