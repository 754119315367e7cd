"""Turns a body that is no API answer into one readable line: an HTML page, plain text, half a body."""

from __future__ import annotations

import html
import re

__all__ = ["LIMIT", "body_text", "collapse", "is_html"]

# The maximum length of a message in characters: enough for a real error, too short for a page.
LIMIT = 2000

# A title comes within this; regular expressions over megabytes would take a second.
_HEAD = 65_536

_HTML = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|h1)\b", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_INVISIBLE = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>?")


def is_html(body: bytes) -> bool:
    """Whether the body starts like a web page."""
    return _HTML.match(_head(body)) is not None


def body_text(body: bytes) -> str:
    """Returns the body for people, of at most ``LIMIT`` characters: a page's title or text, else the text itself."""
    text = _head(body)
    if _HTML.match(text) is None:
        return collapse(text)
    title = _TITLE.search(text)
    if title and (words := collapse(html.unescape(title[1]))):
        return words
    return collapse(html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text))))


def collapse(text: str) -> str:
    """Returns the text on one line, cut to ``LIMIT`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LIMIT else line[: LIMIT - 1] + "…"


def _head(body: bytes) -> str:
    return body[:_HEAD].decode("utf-8", "replace").removeprefix("\ufeff")
