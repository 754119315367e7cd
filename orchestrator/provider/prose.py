"""Whatever came instead of an API answer, as one readable line: an HTML page, plain text, half a body."""

from __future__ import annotations

import html
import re

__all__ = ["LIMIT", "collapse", "is_html", "prose"]

# Characters of a message that are kept; enough for any real error, too little for a page.
LIMIT = 2000

# No title stands further down; a page of megabytes must not cost a second of regular expressions.
_HEAD = 65_536

_HTML = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|h1)\b", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_INVISIBLE = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>?")


def is_html(body: bytes) -> bool:
    """True where the body begins like a web page."""
    return _HTML.match(_head(body)) is not None


def prose(body: bytes) -> str:
    """The body for people, of at most ``LIMIT`` characters: a page's title or text, else the text itself."""
    text = _head(body)
    if _HTML.match(text) is None:
        return collapse(text)
    title = _TITLE.search(text)
    if title and (words := collapse(html.unescape(title[1]))):
        return words
    return collapse(html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text))))


def collapse(text: str) -> str:
    """The text on one line and cut to ``LIMIT`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LIMIT else line[: LIMIT - 1] + "…"


def _head(body: bytes) -> str:
    return body[:_HEAD].decode("utf-8", "replace").removeprefix("\ufeff")
