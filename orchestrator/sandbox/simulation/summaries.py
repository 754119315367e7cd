"""An answer without a model: the sentences of a text with its most frequent words."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

__all__ = ["sentences_asked_for", "summarise"]

_WORDS = {"a": 1, "single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_WORDS |= {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
_ASKED = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(_WORDS)})\b[\s-]+(?:\w+\s+)?(?:sentence|line|bullet|point)s?\b", re.IGNORECASE
)
_PARAGRAPHS = re.compile(r"\n\s*\n")
# The space comes first, so that the regex engine tests the rest only after a space.
_ENDS = re.compile(r" (?:(?<=[.!?] )|(?<=[.!?][\"'”’)\]] ))(?=[\"'“‘(\[]?[A-Z0-9])")
_ABBREVIATED = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Gen|Col|Gov|Sen|Rep|No|vs|etc|viz)|\b[A-Z])\.$")
_LONGEST_ABBREVIATION = 5
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]{3,}")
_COMMON = frozenset(
    _WORD.findall(
        "about after again against also among been before being between both could does down during each even every "
        "from further have having here into itself like made make many more most much must only other over same "
        "shall should some such than that their them then there these they this those through under until upon very "
        "were what when where which while whom will with within without would your"
    )
)

# Only the beginning of longer texts is read: a rehearsal must stay fast.
_MAX_CHARACTERS = 100_000
_LONGEST_INSTRUCTION = 2_000
# Text without full stops, or in a script with other ones, is cut into pieces of this many characters.
_LONGEST_PIECE = 600
_DEFAULT_SENTENCES = 3
# Sentences outside these bounds, in words, say too little or read badly in a summary.
_SHORTEST_SENTENCE, _LONGEST_SENTENCE = 5, 36


def sentences_asked_for(*instructions: str) -> int:
    """How many sentences, points or lines the first instruction with a number asks for; three if none has one."""
    for text in instructions:
        asked = _ASKED.search(text[:_LONGEST_INSTRUCTION])
        if asked:
            word = asked[1].lower()
            return max(1, int(word) if word.isdigit() else _WORDS[word])
    return _DEFAULT_SENTENCES


def summarise(text: str, count: int, *, question: str = "", already_said: str = "") -> str:
    """The ``count`` most informative sentences of the text, in their own order.

    In a conversation, sentences that share words with the ``question`` come first, and those that the model has
    ``already_said`` are left out.
    """
    sentences = _sentences(_without_instruction(text[:_MAX_CHARACTERS]))
    if already_said:
        sentences = [each for each in sentences if each not in already_said and not each.endswith("?")] or sentences
    if len(sentences) <= count:
        return " ".join(sentences)
    words = [set(_WORD.findall(sentence.lower())) - _COMMON for sentence in sentences]
    wanted = set(_WORD.findall(question[:_LONGEST_INSTRUCTION].lower()))
    frequency = Counter(chain.from_iterable(words))

    def rank(n: int) -> tuple[int, float, int]:
        return -len(wanted & words[n]), -_weight(sentences[n], words[n], frequency), len(sentences[n])

    best = sorted(range(len(sentences)), key=rank)[:count]
    return " ".join(sentences[n] for n in sorted(best))


def _weight(sentence: str, words: set[str], frequency: Counter[str]) -> float:
    length = sentence.count(" ") + 1
    if not words or not _SHORTEST_SENTENCE <= length <= _LONGEST_SENTENCE:
        return 0.0
    return sum(map(frequency.__getitem__, words)) / len(words)


def _without_instruction(text: str) -> str:
    """The text without a first paragraph that ends with a colon, as in "Summarise in three sentences:"."""
    head, gap, rest = text.partition("\n\n")
    return rest if gap and head.rstrip().endswith(":") and rest.strip() else text


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    for paragraph in _PARAGRAPHS.split(text):
        begun = ""
        for piece in _ENDS.split(" ".join(paragraph.split())):
            begun = f"{begun} {piece}" if begun else piece
            if not _ABBREVIATED.search(begun, len(begun) - _LONGEST_ABBREVIATION):
                sentences.append(begun)
                begun = ""
        sentences.append(begun)
    return [
        sentence[start : start + _LONGEST_PIECE]
        for sentence in sentences
        for start in range(0, len(sentence), _LONGEST_PIECE)
    ]
