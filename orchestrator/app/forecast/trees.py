"""How many requests a group becomes, and how large they are, while the tokens of its rows are only bounded: pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.stages.packing import packs

__all__ = ["Tree", "tree_of"]


@fast_dataclass
class Tree:
    """The requests of one group: the last one, and those whose answers are parts of another's.

    ``part_tokens`` and ``last_tokens`` are the least and the most tokens of the rows of one of them on average; the
    most is None if nothing bounds it.
    """

    least: int
    last_tokens: tuple[int, int | None]
    least_parts: int = 0
    most_parts: int = 0
    part_tokens: tuple[int, int | None] = (0, 0)


@fast_dataclass(kw_only=False)
class _Levels:
    """The requests of the levels of a tree below the last request, and the tokens of all of them."""

    parts: int
    tokens: int
    last_tokens: int


def tree_of(
    least: Sequence[int], most: Sequence[int | None], *, limit: int | None, answer_tokens: int | None
) -> Tree:
    """The tree of a group whose rows have at least and at most so many tokens.

    As in a run, a row or an answer that is too large for any request counts as one that just fits.
    """
    one = int(bool(least))
    if limit is None:
        bounded = [each for each in most if each is not None]
        return Tree(least=one, last_tokens=(sum(least), sum(bounded) if len(bounded) == len(most) else None))
    low = _levels(least, limit, answer_tokens=1)
    high = _levels([limit if each is None else each for each in most], limit, answer_tokens=answer_tokens or limit)
    return Tree(
        least=one,
        last_tokens=(min(low.last_tokens, high.last_tokens), max(low.last_tokens, high.last_tokens)),
        least_parts=low.parts,
        most_parts=high.parts,
        part_tokens=(low.tokens // max(1, low.parts), -(-high.tokens // max(1, high.parts))),
    )


def _levels(tokens: Sequence[int], limit: int, *, answer_tokens: int) -> _Levels:
    sizes = [min(each, limit) for each in tokens]
    parts = total = 0
    while len(ranges := packs(sizes, at_most=limit)) > 1:
        parts, total = parts + len(ranges), total + sum(sizes)
        sizes = [min(answer_tokens, limit // 2)] * len(ranges)
    return _Levels(parts, total, sum(sizes))
