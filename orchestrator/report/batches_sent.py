"""The batches of a run: the objects for scripts, and the words for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.report import formatting
from orchestrator.stores.provider_batches import ProviderBatch

__all__ = ["batches_object", "batches_words"]


def batches_object(batches: Sequence[ProviderBatch]) -> list[dict[str, Any]]:
    """Returns every batch of a run, in order; ``collected_at`` is null while its lines are at the provider."""
    return [
        {
            "id": each.batch_id,
            "stage": each.stage,
            "model": each.model,
            "status": each.status,
            "lines": each.lines,
            "submitted_at": formatting.stamp(each.submitted_at),
            "ended_at": formatting.stamp(each.ended_at),
            "collected_at": formatting.stamp(each.collected_at),
        }
        for each in batches
    ]


def batches_words(batches: Sequence[ProviderBatch]) -> str:
    """Returns how many batches were sent and, of those at the provider, in which status they are."""
    sent = [each for each in batches if each.batch_id is not None]
    left = [each for each in batches if each.collected_at is None]
    words = f"{formatting.count(len(sent))} sent"
    if not left:
        return words
    statuses = Counter(each.status or "being sent" for each in left)
    shown = ", ".join(f"{formatting.count(number)} {status}" for status, number in statuses.items())
    lines = formatting.count(sum(each.lines for each in left))
    return f"{words}; {formatting.count(len(left))} not collected, with {lines} requests ({shown})"
