"""Every fault of the sandbox at once: the settings, and a job and a config that can cope with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.sandbox.sandbox_settings import (
    DELIVERY_FAULTS,
    ENDING_FAULTS,
    POLL_FAULTS,
    QUIRKS,
    REFUSAL_FAULTS,
)

__all__ = ["CONFIG", "FAULTS", "FINAL", "JOB", "rates", "rows_of_speeches"]

# The faults that fail a row permanently, with its error code.
FINAL = {
    "failed_invalid_prompt": "invalid_prompt",
    "content_filter": "content_filter",
    "empty_output": "empty_output",
    "refusal": "refusal",
    "requires_action": "requires_action",
    "unprocessable": "invalid_request_error",
    # Paid for and unreadable: it is not asked again by itself.
    "unreadable_200": "unreadable_reply",
    "broken_200": "unreadable_reply",
    "unreadable_end": "unreadable_reply",
}
# Missing quota and permission halt the run, as they should (tests/reliability/test_halts.py), and a full queue leaves
# few places for the rest of it (tests/reliability/test_places.py); all others are on.
FAULTS = [
    name
    for name in (*REFUSAL_FAULTS, *DELIVERY_FAULTS, *ENDING_FAULTS, *QUIRKS, *POLL_FAULTS)
    if name not in ("insufficient_quota", "forbidden", "queue_full")
]
JOB: dict[str, Any] = {
    "request": {
        "model": "gpt-5-mini",
        "input": "Summarise in two sentences:\n{{ text }}",
        "max_output_tokens": 400,
        "service_tier": "{{ tier }}",
    },
    "retry": {"attempts": 15},
    "on_incomplete": {"raise_max_output_tokens_to": 900},
}
CONFIG: dict[str, Any] = {"timeouts": {"read": "3s", "queued": "8s", "run": "10s"}}
_TIERS = ["default", "default", "default", "flex"]


def rates() -> dict[str, float]:
    """The rates of all faults, between 1 and 2 per cent: a third of all attempts fails.

    A response vanishes 30 s after its end: earlier, a late poll on a busy machine would not find it, and in its first
    two minutes the product does not yet decide that a response has expired.
    """
    rare = {*FINAL, "stuck_queued", "stuck_in_progress", "stale_snapshot"}
    return {"vanish_after_s": 30, **{name: 0.01 if name in rare else 0.016 for name in FAULTS}}


def rows_of_speeches(count: int) -> Iterator[dict[str, str]]:
    """``count`` rows, one in four for the flex tier."""
    for n in range(count):
        yield {
            "id": f"row-{n}",
            "text": f"The report of the year {1800 + n} was read aloud.",
            "tier": _TIERS[n % len(_TIERS)],
        }
