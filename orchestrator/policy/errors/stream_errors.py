"""Whether it is worth opening a stream again after an error."""

from __future__ import annotations

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.provider_error import is_transient_status

__all__ = ["cannot_stream"]


def cannot_stream(problem: Problem) -> bool:
    """Whether the error is permanent: the server does not stream, or the response was not created as a stream."""
    match problem:
        case Refused(status=404):
            # A new response may not be replicated yet.
            return False
        case Refused(status=status):
            return status == 501 or not is_transient_status(status)
        case ReplyLost(status=status):
            # The server answered, but not with a stream.
            return status is not None
        case NeverSent():
            return False
