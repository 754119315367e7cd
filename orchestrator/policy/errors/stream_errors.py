"""Whether a stream that could not be had is worth asking for again."""

from __future__ import annotations

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost

__all__ = ["cannot_stream"]

# A young response may not have arrived everywhere, hence the 404.
_PASSING = frozenset({404, 408, 409, 425, 429})


def cannot_stream(problem: Problem) -> bool:
    """Whether it is for good: the server does not stream, or the response was not created as one."""
    match problem:
        case Refused(status=status):
            return (400 <= status < 500 and status not in _PASSING) or status == 501
        case ReplyLost(status=status):
            # It answered, and not with a stream.
            return status is not None
        case NeverSent():
            return False
