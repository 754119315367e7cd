"""Whether a refused create says that the model does not take the lane it was sent by."""

from __future__ import annotations

from orchestrator.core.lanes import WINDOWS, Lane
from orchestrator.core.problems import Problem, Refused

__all__ = ["refuses_lane"]

_CLIENT_ERRORS = (400, 403, 422)


def refuses_lane(lane: Lane, problem: Problem) -> bool:
    """Whether the refusal names what the lane alone has put into the request: its window, or its tier."""
    if not isinstance(problem, Refused) or problem.status not in _CLIENT_ERRORS:
        return False
    words = f"{problem.param or ''} {problem.message}"
    if lane in WINDOWS:
        return "completion_window" in words or "background_options" in words
    return lane is Lane.FLEX and "service_tier" in words
