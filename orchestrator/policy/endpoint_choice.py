"""Which endpoint a request goes to: by weight among those that have room, without catching up later."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["choose"]


def choose(earned: Sequence[float], weights: Sequence[float], candidates: Sequence[int]) -> tuple[int, list[float]]:
    """Returns one of the candidates, by place, and what each has earned for the next choice.

    Each candidate earns its weight, and the one that is chosen pays what all have earned. Who cannot be chosen earns
    nothing: an endpoint that was out of order for an hour takes its own share afterwards, not all.
    """
    left = list(earned)
    for place in candidates:
        left[place] += weights[place]
    chosen = max(candidates, key=lambda place: (left[place], -place))
    left[chosen] -= sum(weights[place] for place in candidates)
    return chosen, left
