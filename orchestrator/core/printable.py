"""Makes text from outside safe for a terminal: a provider's message must not move the cursor or reverse a line."""

from __future__ import annotations

import re

__all__ = ["CONTROLS", "printable"]

# C0 but tab and line feed, delete, C1, and what changes the direction of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Returns a text of the same length, with a visible sign in place of each control character."""
    return CONTROLS.sub(_sign, text) if CONTROLS.search(text) else text


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Unicode has a picture for each of the old control characters.
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
