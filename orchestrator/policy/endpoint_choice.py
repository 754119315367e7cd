"""Which endpoint a request goes to, and when one that refuses requests is tried again."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.problems import Problem, Refused
from orchestrator.policy.errors.judgement import code_of

__all__ = ["choose", "closed_for_s", "refuses_model"]

# How long an endpoint that refuses everything is left alone: doubled each time, up to the second number.
_FIRST_CLOSED_S, _LONGEST_CLOSED_S = 30.0, 600.0


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


def closed_for_s(times: int) -> float:
    """Returns how long an endpoint that refuses everything is left alone, the given time in a row."""
    return min(_LONGEST_CLOSED_S, _FIRST_CLOSED_S * 2.0 ** min(times - 1, 10))


def refuses_model(problem: Problem) -> bool:
    """Whether an endpoint does not have the model of a request, which another one may have."""
    return isinstance(problem, Refused) and code_of(problem) == "model_not_found"
