"""``python -m docs.site_check FOLDER``: each link of the built site leads somewhere, none loads from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links", "main"]

# What a browser loads by itself.
_LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class _Links(HTMLParser):
    """The links of a page and the names in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.names.update(values[name] for name in ("id", "name") if name in values)
        target = values.get(_LOADING.get(tag, ""), "")
        # A canonical address is named, and not loaded.
        if target and values.get("rel") != "canonical":
            self.loaded.append(target)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@cache
def _read(page: Path) -> _Links:
    links = _Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


def broken_links(site: Path) -> Iterator[str]:
    """Yields what is wrong, a line for each link."""
    for page in sorted(site.rglob("*.html")):
        found = _read(page)
        name = page.relative_to(site)
        for target in found.loaded:
            if urlsplit(target).netloc:
                yield f"{name}: {target} is loaded from elsewhere"
        for target in {*found.links, *found.loaded}:
            if problem := _problem(site, page, target):
                yield f"{name}: {target}: {problem}"


def _problem(site: Path, page: Path, target: str) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    there = page if not path else site / path.lstrip("/") if path.startswith("/") else page.parent / path
    there = there.resolve()
    if there.is_dir():
        there /= "index.html"
    if not there.is_relative_to(site.resolve()) or not there.is_file():
        return "no such file"
    if parts.fragment and there.suffix == ".html" and unquote(parts.fragment) not in _read(there).names:
        return "no such heading"
    return None


def main() -> None:
    """Prints each broken link, and fails if there is one."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m docs.site_check FOLDER")
    site = Path(sys.argv[1])
    problems = list(broken_links(site))
    pages = sum(1 for _ in site.rglob("*.html"))
    print(*problems, f"{pages} pages, {len(problems)} broken links", sep="\n")  # noqa: T201  # it is a command
    sys.exit(1 if problems or not pages else 0)


if __name__ == "__main__":
    main()
