"""Rows are packed in order, and never more tokens than a request may have."""

from __future__ import annotations

import random

import pytest

from orchestrator.job.stages.packing import RowTooLarge, packs, tree_can_end


def test_a_pack_is_closed_by_the_first_row_that_does_not_fit() -> None:
    assert packs([3, 3, 3, 3], at_most=6) == [range(2), range(2, 4)]
    assert packs([5, 2, 1, 6], at_most=6) == [range(1), range(1, 3), range(3, 4)]


def test_without_a_limit_all_rows_are_one_pack() -> None:
    assert packs([9, 9], at_most=None) == [range(2)]


@pytest.mark.parametrize("at_most", [None, 10])
def test_no_rows_are_no_pack(at_most: int | None) -> None:
    assert packs([], at_most=at_most) == []


def test_one_row_is_one_pack() -> None:
    assert packs([10], at_most=10) == [range(1)]


def test_a_row_that_fits_no_pack_is_named() -> None:
    with pytest.raises(RowTooLarge) as caught:
        packs([1, 11, 1], at_most=10)
    assert (caught.value.index, caught.value.tokens) == (1, 11)


def test_twenty_thousand_rows_never_exceed_the_limit_and_none_is_lost() -> None:
    rng = random.Random(7)
    tokens = [rng.randint(1, 900) for _ in range(20_000)]
    made = packs(tokens, at_most=30_000)
    assert [index for part in made for index in part] == list(range(20_000))
    sums = [sum(tokens[part.start : part.stop]) for part in made]
    assert max(sums) <= 30_000
    assert min(sums[:-1]) > 30_000 - 900


@pytest.mark.parametrize(
    ("answer", "template", "at_most", "ends"),
    [(100, 50, 250, True), (100, 51, 250, False), (125, 0, 250, True), (1, 0, 1, False)],
)
def test_a_tree_ends_if_two_answers_fit(answer: int, template: int, at_most: int, ends: bool) -> None:
    assert tree_can_end(answer_tokens=answer, template_tokens=template, at_most=at_most) is ends
