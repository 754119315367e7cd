"""The batches of a run, for people and for scripts."""

from __future__ import annotations

from typing import Any

from orchestrator.report.batches_sent import batches_object, batches_words
from orchestrator.stores.provider_batches import ProviderBatch

AT = 1_790_000_000.0


def a_batch(**changes: Any) -> ProviderBatch:
    values: dict[str, Any] = {
        "id": 1,
        "run_id": 1,
        "stage": "main",
        "model": "gpt-5-mini",
        "uid": "u",
        "lines": 1000,
        "tokens": 5,
        "made_at": AT,
        "batch_id": "batch_1",
        "status": "in_progress",
        "submitted_at": AT,
    }
    return ProviderBatch(**(values | changes))


def test_people_see_what_is_still_at_the_provider() -> None:
    collected = a_batch(status="completed", ended_at=AT, collected_at=AT)
    assert batches_words([collected]) == "1 sent"
    sending = a_batch(batch_id=None, status=None, lines=500)
    words = batches_words([collected, a_batch(), a_batch(), sending])
    assert words == "3 sent; 3 not collected, with 2,500 requests (2 in_progress, 1 being sent)"


def test_a_batch_that_was_never_created_is_not_counted_as_sent() -> None:
    assert batches_words([a_batch(batch_id=None, collected_at=AT), a_batch(collected_at=AT)]) == "1 sent"


def test_scripts_see_every_batch() -> None:
    [shown] = batches_object([a_batch(ended_at=AT + 60)])
    assert shown == {
        "id": "batch_1",
        "stage": "main",
        "model": "gpt-5-mini",
        "status": "in_progress",
        "lines": 1000,
        "submitted_at": "2026-09-21T14:13:20Z",
        "ended_at": "2026-09-21T14:14:20Z",
        "collected_at": None,
    }
