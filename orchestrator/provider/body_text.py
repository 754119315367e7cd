"""Turns a body that is no API answer into one readable line: an HTML page, plain text, half a body.

Pages are scanned once from left to right: a regular expression that may try a place again takes years for some pages.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

__all__ = ["LIMIT", "body_text", "collapse", "is_html"]

# The maximum length of a message in characters: enough for a real error, too short for a page.
LIMIT = 2000

# A title comes within this.
_HEAD = 65_536

# Each of these matches at one place without trying others.
_BLANK = re.compile(r"\s*")
_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body|title|h1)\b", re.IGNORECASE)
_ELEMENT = re.compile(r"<(title|script|style)\b", re.IGNORECASE)
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("title", "script", "style")}
_BRACKET = re.compile("[<>]")


def is_html(body: bytes) -> bool:
    """Whether the body starts like a web page."""
    return _is_page(_head(body))


def body_text(body: bytes) -> str:
    """Returns the body for people, of at most ``LIMIT`` characters: a page's title or text, else the text itself."""
    text = _head(body)
    if not _is_page(text):
        return collapse(text)
    title: list[str] = []
    words = " ".join(_visible(text, title))
    return next((found for part in title if (found := collapse(html.unescape(part)))), collapse(html.unescape(words)))


def collapse(text: str) -> str:
    """Returns the text on one line, cut to ``LIMIT`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LIMIT else line[: LIMIT - 1] + "…"


def _head(body: bytes) -> str:
    return body[:_HEAD].decode("utf-8", "replace").removeprefix("\ufeff")


def _is_page(text: str) -> bool:
    """Whether the first tag after blanks and comments is one of a page."""
    at = 0
    while True:
        blank = _BLANK.match(text, at)
        at = blank.end() if blank else at
        if not text.startswith("<!--", at):
            return _PAGE.match(text, at) is not None
        at = _after(text, "-->", at + 4)


def _visible(text: str, title: list[str]) -> Iterator[str]:
    """Yields the text between the tags, without scripts, styles and comments; adds titles to ``title``."""
    at = 0
    while (tag := text.find("<", at)) >= 0:
        yield text[at:tag]
        if text.startswith("<!--", tag):
            at = _after(text, "-->", tag + 4)
            continue
        at = _after_tag(text, tag + 1)
        if (element := _ELEMENT.match(text, tag)) is not None:
            name = element[1].lower()
            closing = _ENDS[name].search(text, at)
            end = len(text) if closing is None else closing.start()
            if name == "title":
                title.append(text[at:end])
                yield text[at:end]
            at = _after_tag(text, end + 1)
    yield text[at:]


def _after(text: str, mark: str, start: int) -> int:
    """Returns the place after the next such mark, or the end of the text."""
    found = text.find(mark, start)
    return len(text) if found < 0 else found + len(mark)


def _after_tag(text: str, start: int) -> int:
    """Returns the place where a tag ends: after its ``>``, or before the next ``<`` if that comes first."""
    bracket = _BRACKET.search(text, start)
    return len(text) if bracket is None else bracket.end() if bracket[0] == ">" else bracket.start()
