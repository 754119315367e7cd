"""An answer without a model: the sentences of a text that say most of what it says."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["sentences_asked_for", "summarise"]

_WORDS = {"a": 1, "single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_WORDS |= {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
_ASKED = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(_WORDS)})\b[\s-]+(?:\w+\s+)?(?:sentence|line|bullet|point)s?\b", re.IGNORECASE
)
_ENDS = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])|\n\s*\n")
_ABBREVIATED = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Gen|Col|Gov|Sen|Rep|No|vs|etc|viz)|\b[A-Z])\.$")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]{3,}")
_COMMON = frozenset(
    _WORD.findall(
        "about after again against also among been before being between both could does down during each even every "
        "from further have having here into itself like made make many more most much must only other over same "
        "shall should some such than that their them then there these they this those through under until upon very "
        "were what when where which while whom will with within without would your"
    )
)

# Longer texts are judged by their beginning: a rehearsal must stay quick.
_LONGEST = 100_000
_USUAL = 3
# A sentence outside these bounds, in words, says too little or reads badly in a summary.
_SHORTEST_SENTENCE, _LONGEST_SENTENCE = 5, 45


def sentences_asked_for(*instructions: str) -> int:
    """How many sentences (or points, or lines) the first instruction that names a number asks for; else three."""
    for text in instructions:
        asked = _ASKED.search(text[:2_000])
        if asked:
            word = asked[1].lower()
            return max(1, int(word) if word.isdigit() else _WORDS[word])
    return _USUAL


def summarise(text: str, count: int) -> str:
    """The ``count`` most telling sentences of the text, in their own order."""
    sentences = _sentences(_without_instruction(text[:_LONGEST]))
    if len(sentences) <= count:
        return " ".join(sentences)
    words = [[word for word in _WORD.findall(sentence.lower()) if word not in _COMMON] for sentence in sentences]
    frequency = Counter(word for each in words for word in each)
    best = sorted(range(len(sentences)), key=lambda n: (-_weight(sentences[n], words[n], frequency), n))[:count]
    return " ".join(sentences[n] for n in sorted(best))


def _weight(sentence: str, words: list[str], frequency: Counter[str]) -> float:
    length = sentence.count(" ") + 1
    if not words or not _SHORTEST_SENTENCE <= length <= _LONGEST_SENTENCE:
        return 0.0
    return sum(frequency[word] for word in set(words)) / len(words)


def _without_instruction(text: str) -> str:
    """The text after a first paragraph that ends with a colon, as in "Summarise in three sentences:"."""
    head, gap, rest = text.partition("\n\n")
    return rest if gap and head.rstrip().endswith(":") and rest.strip() else text


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    begun = ""
    for piece in _ENDS.split(text):
        begun = f"{begun} {' '.join(piece.split())}".strip()
        if begun and not _ABBREVIATED.search(begun):
            sentences.append(begun)
            begun = ""
    return [*sentences, begun] if begun else sentences
