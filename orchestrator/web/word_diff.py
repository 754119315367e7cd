"""Which words of two texts differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

__all__ = ["MOST_WORDS", "Piece", "word_diff"]

# Of each text; comparing takes a time that grows with the product.
MOST_WORDS = 1_500
_WORD = re.compile(r"\w+\s*|[^\w\s]+\s*|\s+")

Change: TypeAlias = Literal["same", "removed", "added"]
# A stretch of text, and what became different in it.
Piece: TypeAlias = tuple[Change, str]


def word_diff(one: str, other: str) -> tuple[list[Piece], list[Piece]] | None:
    """Returns the pieces of each text; None if they are too long to be compared word by word."""
    ours, theirs = _WORD.findall(one), _WORD.findall(other)
    if max(len(ours), len(theirs)) > MOST_WORDS:
        return None
    # Answers often begin and end alike, and comparing the rest alone is much faster.
    begin = _alike(ours, theirs)
    end = _alike(ours[begin:][::-1], theirs[begin:][::-1])
    middle, other_middle = ours[begin : len(ours) - end], theirs[begin : len(theirs) - end]
    first, last = list(_piece("same", ours[:begin])), list(_piece("same", ours[len(ours) - end :]))
    left, right = _compared(middle, other_middle)
    return first + left + last, first + right + last


def _alike(one: list[str], other: list[str]) -> int:
    """How many words two texts have in common at their beginning."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def _compared(ours: list[str], theirs: list[str]) -> tuple[list[Piece], list[Piece]]:
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        left += _piece("same" if tag == "equal" else "removed", ours[a:b])
        right += _piece("same" if tag == "equal" else "added", theirs[c:d])
    return left, right


def _piece(change: Change, words: list[str]) -> Iterator[Piece]:
    if words:
        yield change, "".join(words)
