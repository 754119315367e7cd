"""One response as the sandbox stores it, and its status at a given time.

Everything that will happen to a response is drawn when it is created and stored with it. Its status then follows
from the time alone, so no task runs in between, and a restart changes nothing.
"""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Usage

__all__ = [
    "ResponseRecord",
    "echoed_tier",
    "has_ended",
    "is_cut_off",
    "is_known",
    "shown_status",
    "true_status",
    "usage_at",
]

# Tiers that a response names differently from its request (responses API, "service_tier").
_ECHOED_TIERS = {None: "default", "auto": "default", "fast": "priority"}
# The statuses before the end, and what the quirk ``unknown_status`` shows instead.
_OPEN_STATUSES = {"queued": "pending", "in_progress": "running"}


@fast_dataclass
class ResponseRecord:
    """A response, with all that was drawn for it. Times are Unix seconds; infinity means never.

    ``streamed``: whether its events were requested; only then can a client follow them.
    ``end_status``: the status that it reaches at ``ends_at`` unless it is cancelled before; ``usable``: whether it
    then answers the request; ``quirk``: the odd way in which it is shown; ``lost_by``: the fault that lost the reply
    to its create. ``echo``: a JSON object of the fields that never change; ``output``: the JSON list of the items of
    the finished response; ``hosted``: a JSON object of the types of the ``tools`` offered and of the calls in the
    ``output``, as far as fees are charged for them.
    """

    id: str
    ordinal: int
    created_at: float
    starts_at: float
    ends_at: float
    end_status: str
    usable: bool
    usage: Usage | None
    model: str
    tier: str
    background: bool
    stored: bool
    streamed: bool
    echo: bytes
    output: bytes
    hosted: bytes = b"{}"
    window: str | None = None
    error_code: str | None = None
    incomplete_reason: str | None = None
    quirk: str | None = None
    lost_by: str | None = None
    run: str | None = None
    key: str | None = None
    attempt: str | None = None
    idempotency_key: str | None = None
    previous_id: str | None = None
    conversation_id: str | None = None
    cancel_asked_at: float | None = None
    deleted_at: float | None = None
    # The final status that a client last received, if any.
    delivered: str | None = None


def echoed_tier(asked: str | None) -> str:
    """The service tier that a response reports for a requested one."""
    return _ECHOED_TIERS.get(asked) or str(asked)


def true_status(record: ResponseRecord, now: float) -> str:
    """The status at a time, whatever a poll may show."""
    asked = record.cancel_asked_at
    if (
        asked is not None
        and asked < record.ends_at
        and not (record.quirk == "late_after_cancel" and now >= record.ends_at)
    ):
        return "cancelled"
    if now >= record.ends_at:
        return record.end_status
    return "in_progress" if now >= record.starts_at else "queued"


def has_ended(record: ResponseRecord, now: float) -> bool:
    """Whether the response is in a final state."""
    return true_status(record, now) not in _OPEN_STATUSES


def shown_status(record: ResponseRecord, now: float) -> str:
    """The status that a poll shows."""
    if record.quirk == "stale_snapshot" and record.cancel_asked_at is None:
        return "queued"
    status = true_status(record, now)
    return _OPEN_STATUSES.get(status, status) if record.quirk == "unknown_status" else status


def is_cut_off(record: ResponseRecord, at: float) -> bool:
    """Whether a cancel came before that time and before the end."""
    asked = record.cancel_asked_at
    return asked is not None and asked < record.ends_at and asked < at


def usage_at(record: ResponseRecord, now: float) -> Usage | None:
    """What is billed so far: the tokens of a response that ran to its end; None if it runs or was cancelled."""
    return record.usage if true_status(record, now) == record.end_status else None


def is_known(record: ResponseRecord, now: float, *, young_s: float, vanish_s: float) -> bool:
    """Whether a poll finds the response; ``young_s`` and ``vanish_s`` are for the quirks that hide it."""
    if not record.stored or record.deleted_at is not None:
        return False
    if record.quirk == "young_404" and now < record.created_at + young_s:
        return False
    if record.quirk == "never_kept":
        return False
    return not (record.quirk == "vanish" and now >= record.ends_at + vanish_s)
