"""When a batch is closed that takes in requests: it is full, or no more requests are on their way."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["BatchLimits", "BatchSize", "closes_at", "has_room"]

# How long a batch waits for further requests. A short wait makes many small batches of rows that arrive slowly.
_LINGER_S = 30.0
# One batch takes at most this share of what may be enqueued, so that one is answered while the next one is prepared.
_SHARE_OF_ENQUEUED = 2


@fast_dataclass
class BatchLimits:
    """The most that one file holds, and the most input tokens that all batches of a model may have enqueued."""

    max_lines: int
    max_bytes: int
    enqueued_tokens: int


@fast_dataclass
class BatchSize:
    """What a batch holds."""

    lines: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: BatchSize) -> BatchSize:
        return BatchSize(
            lines=self.lines + other.lines, bytes=self.bytes + other.bytes, tokens=self.tokens + other.tokens
        )


def has_room(size: BatchSize, line: BatchSize, limits: BatchLimits) -> bool:
    """Whether a line still fits. The first one always does: what alone is too large, the provider must refuse."""
    if not size.lines:
        return True
    after = size + line
    return (
        after.lines <= limits.max_lines
        and after.bytes <= limits.max_bytes
        and after.tokens <= limits.enqueued_tokens // _SHARE_OF_ENQUEUED
    )


def closes_at(size: BatchSize, *, first_at: float, now: float, drained: bool, next_due_at: float | None) -> float:
    """When a batch that is not full is closed.

    ``drained`` says that nothing else is waiting to be sent; ``next_due_at`` is when the next request comes that was
    put off, if all others have come.
    """
    latest = first_at + _LINGER_S
    if not size.lines or drained:
        return now
    if next_due_at is not None and next_due_at > latest:
        return now
    return latest
