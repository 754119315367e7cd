"""Texts that compress about as well as prose: one repeated letter would make every database look small."""

from __future__ import annotations

import random
from functools import cache
from itertools import accumulate

__all__ = ["passage"]

_SYLLABLES = (
    "ba be bi co da de di en er fa fi ga go ha in ka la le li ma mi na ne no or pa pe ra re ri sa se ta ti un"
)
_LENGTH = 1_000_000


def passage(rng: random.Random, characters: int) -> str:
    """A random piece, ``characters`` long, of a long text in an invented language."""
    text = _text()
    start = rng.randrange(len(text) - characters)
    return text[start : start + characters]


@cache
def _text() -> str:
    rng = random.Random(0)
    syllables = _SYLLABLES.split()
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(4000)]
    # Few words are frequent and many are rare, as in any language.
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return " ".join(rng.choices(words, cum_weights=weights, k=_LENGTH // 3))
