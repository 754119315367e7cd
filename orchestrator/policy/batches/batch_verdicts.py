"""What a batch's status and errors mean for its requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import BatchError

__all__ = [
    "BatchVerdict",
    "Collect",
    "OverTokenLimit",
    "StillOpen",
    "Unusable",
    "WrongLines",
    "judge_batch",
]

# Every other status, an unknown one included, is not final (responses API, "Batch API").
_FAILED = "failed"
_ENDED = frozenset({"completed", "expired", "cancelled"})
_TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105  # the provider's code, no secret


@fast_dataclass(kw_only=False)
class StillOpen:
    """It has not ended."""


@fast_dataclass(kw_only=False)
class Collect:
    """It has ended, and its files hold what was answered."""


@fast_dataclass(kw_only=False)
class OverTokenLimit:
    """It was refused because too many tokens are enqueued: nothing of it was asked."""


@fast_dataclass(kw_only=False)
class WrongLines:
    """It was refused for some of its lines, by their numbers from 1; the others may be sent again."""

    errors: dict[int, BatchError]


@fast_dataclass(kw_only=False)
class Unusable:
    """It was refused as a whole, and another one like it would be, too."""

    code: str
    message: str


BatchVerdict: TypeAlias = StillOpen | Collect | OverTokenLimit | WrongLines | Unusable


def judge_batch(status: str, errors: Sequence[BatchError], *, lines: int) -> BatchVerdict:
    """What a poll of a batch of so many lines has shown."""
    if status in _ENDED:
        return Collect()
    if status != _FAILED:
        return StillOpen()
    if any(error.code == _TOKEN_LIMIT for error in errors):
        return OverTokenLimit()
    wrong = {error.line: error for error in errors if error.line is not None and 1 <= error.line <= lines}
    if wrong:
        return WrongLines(wrong)
    first = errors[0] if errors else BatchError()
    return Unusable(first.code or "batch_refused", first.message or "the provider refused the batch without a reason")
