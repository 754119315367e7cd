"""What of a run is kept and for how long, at the provider and here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DeleteAfter", "RetentionPolicy", "delete_ended_before"]


@dataclass(frozen=True, slots=True)
class DeleteAfter:
    """A provider's copy goes so many seconds after its response ended."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What the job's section ``retention`` asks for; what is dropped here goes once all results are in a file."""

    provider: Literal["keep", "delete_after_export"] | DeleteAfter = "keep"
    inputs: Literal["keep", "drop"] = "keep"
    outputs: Literal["keep", "drop"] = "keep"


def delete_ended_before(retention: RetentionPolicy, *, now: float, exported_at: float | None) -> float | None:
    """Responses that ended by this moment are to be deleted at the provider; None where none is."""
    match retention.provider:
        case DeleteAfter(seconds):
            return now - seconds
        case "delete_after_export":
            # What ended later, after a retry, is not in that file.
            return exported_at
        case _:
            return None
