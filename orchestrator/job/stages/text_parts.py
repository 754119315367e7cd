"""Splits a text into parts of at most so many tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

__all__ = ["text_parts"]

# The text is cut between words, and a word of more characters (a table, an encoded file) is cut too.
_WORD = re.compile(r"\s*\S{1,200}")

Count = Callable[[list[str]], Sequence[int]]


def text_parts(text: str, *, max_tokens: int, overlap: int, count: Count) -> list[str]:
    """The parts, in order; each begins with the last ``overlap`` tokens of the one before."""
    words = _WORD.findall(text)
    return ["".join(words[part.start : part.stop]).strip() for part in _parts(count(words), max_tokens, overlap)]


def _parts(tokens: Sequence[int], max_tokens: int, overlap: int) -> Iterator[range]:
    first, used = 0, 0
    for index, needed in enumerate(tokens):
        if index > first and used + needed > max_tokens:
            yield range(first, index)
            first, used = _start_of_next(tokens, first, index, min(overlap, max_tokens - needed))
        used += needed
    if tokens:
        yield range(first, len(tokens))


def _start_of_next(tokens: Sequence[int], first: int, end: int, overlap: int) -> tuple[int, int]:
    """Where the next part begins, and how many tokens it repeats; always after the beginning of the one before."""
    start, repeated = end, 0
    while start - 1 > first and repeated + tokens[start - 1] <= overlap:
        start -= 1
        repeated += tokens[start]
    return start, repeated
