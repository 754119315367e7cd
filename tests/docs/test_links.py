"""Every link inside the repository leads to a page, a file or a heading that is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generator.pages import ROOT, pages

_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()])
def test_links_lead_somewhere(page: Path) -> None:
    for target in _links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target}: no such file"
        assert there.is_relative_to(ROOT), f"{target}: outside of the repository"
        assert not anchor or anchor in _anchors(there), f"{target}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += [(page.parent / target.partition("#")[0]).resolve() for target in _links(page)]
    assert set(pages()) <= seen


def _links(page: Path) -> Iterator[str]:
    prose = _CODE.sub("", page.read_text())
    yield from (found["target"] for found in _LINK.finditer(prose) if "://" not in found["target"])


def _anchors(page: Path) -> set[str]:
    """The names that a code host gives to headings."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = (found["title"].lower().replace(" ", "-") for found in _HEADING.finditer(prose))
    return {re.sub(r"[^\w-]", "", title) for title in titles}
