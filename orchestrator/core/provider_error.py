"""What an error of a provider says: in words, and whether a repeated call may succeed."""

from __future__ import annotations

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost

__all__ = ["is_transient", "is_transient_status", "message_of"]

# Every other refusal below 500 would recur: the request itself, the key or the address is wrong.
_TRANSIENT = frozenset({408, 409, 423, 425, 429})


def is_transient_status(status: int) -> bool:
    """Whether a call refused with this status may succeed later."""
    return status >= 500 or status in _TRANSIENT


def is_transient(problem: Problem) -> bool:
    """Whether a repeated call may succeed; the provider's ``x-should-retry`` takes precedence over the status."""
    match problem:
        case Refused(should_retry=bool(hint)):
            return hint
        case Refused(status=status):
            return is_transient_status(status)
        case NeverSent() | ReplyLost():
            return True


def message_of(problem: Problem) -> str:
    """Returns the problem in words, for people."""
    if isinstance(problem, Refused):
        return problem.message or f"HTTP {problem.status}"
    return problem.reason
