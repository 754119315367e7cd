"""Packs rows into requests that are not too large: pure, over the tokens of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["RowTooLarge", "packs", "tree_can_end"]


class RowTooLarge(Exception):
    """One row alone needs more tokens than a request may have."""

    def __init__(self, index: int, tokens: int) -> None:
        super().__init__(f"a row needs {tokens} tokens")
        self.index = index
        self.tokens = tokens


def packs(tokens: Sequence[int], *, at_most: int | None) -> list[range]:
    """The rows of each pack, as ranges in their order; a pack is closed by the first row that does not fit.

    Raises ``RowTooLarge``. Without a limit all rows are one pack; no rows are no pack.
    """
    if at_most is None:
        return [range(len(tokens))] if tokens else []
    return list(_packs(tokens, at_most))


def _packs(tokens: Sequence[int], at_most: int) -> Iterator[range]:
    first, used = 0, 0
    for index, needed in enumerate(tokens):
        if needed > at_most:
            raise RowTooLarge(index, needed)
        if used + needed > at_most:
            yield range(first, index)
            first, used = index, 0
        used += needed
    if first < len(tokens):
        yield range(first, len(tokens))


def tree_can_end(*, answer_tokens: int, template_tokens: int, at_most: int) -> bool:
    """Whether any two answers fit into one merging request, so that each level has at most half as many answers."""
    return 2 * answer_tokens + template_tokens <= at_most
