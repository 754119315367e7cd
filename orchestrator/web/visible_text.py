"""Makes text from outside honest on a page: characters that a browser hides, or that reorder a line, become marks."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

__all__ = ["finalize", "shortened", "visible"]

# Controls but tab and line feed, and what is invisible or turns text around. Half pairs cannot be encoded.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad"
    "\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Returns a text with a mark in place of each hidden character: ``␛`` for an escape, ``⟨U+202E⟩`` for others."""
    return _HIDDEN.sub(_mark, text)


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    return (
        chr(0x2400 + code)
        if code < 0x20
        else f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{code:04X}\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
    )


def finalize(value: Any) -> Any:
    """What a template prints for a value: nothing for None, and text made visible; markup is the template's own."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    return visible(value) if isinstance(value, str) else value


def shortened(text: str | None, most: int) -> str:
    """Returns the beginning of a text on one line."""
    line = " ".join((text or "")[: 4 * most].split())
    return line if len(line) <= most and len(text or "") <= 4 * most else f"{line[:most].rstrip()} …"
