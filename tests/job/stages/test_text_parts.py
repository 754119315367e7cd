"""A text is split between words, into parts that are not too large."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orchestrator.job.stages.text_parts import text_parts


def by_word(words: list[str]) -> Sequence[int]:
    return [1] * len(words)


def by_length(words: list[str]) -> Sequence[int]:
    return [len(word) for word in words]


def test_a_short_text_is_one_part() -> None:
    assert text_parts("one two", max_tokens=5, overlap=0, count=by_word) == ["one two"]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_a_text_without_words_has_no_parts(text: str) -> None:
    assert text_parts(text, max_tokens=5, overlap=0, count=by_word) == []


def test_parts_follow_on_each_other() -> None:
    assert text_parts("a b c d e", max_tokens=2, overlap=0, count=by_word) == ["a b", "c d", "e"]


def test_a_part_begins_with_the_end_of_the_one_before() -> None:
    assert text_parts("a b c d e", max_tokens=3, overlap=1, count=by_word) == ["a b c", "c d e"]


def test_white_space_inside_a_part_is_kept() -> None:
    assert text_parts("a\n\nb  c", max_tokens=2, overlap=0, count=by_word) == ["a\n\nb", "c"]


def test_a_word_without_end_is_cut() -> None:
    parts = text_parts("x" * 1_000, max_tokens=1, overlap=0, count=by_word)
    assert [len(part) for part in parts] == [200] * 5


@pytest.mark.parametrize("seed", range(20))
def test_no_word_is_lost_and_every_part_is_smaller_than_allowed(seed: int) -> None:
    rng = random.Random(seed)
    words = ["w" * rng.randint(1, 9) for _ in range(rng.randint(1, 200))]
    most, overlap = rng.randint(12, 60), rng.randint(0, 11)
    parts = text_parts(" ".join(words), max_tokens=most, overlap=overlap, count=by_length)
    assert all(len(part) <= most for part in parts)
    rest = list(words)
    for part in parts:
        new = part.split()
        while new and new != rest[: len(new)]:
            new = new[1:]
        rest = rest[len(new) :]
    assert rest == []
