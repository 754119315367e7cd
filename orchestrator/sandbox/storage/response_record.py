"""One response as the sandbox stores it, and what it looks like at a given moment.

Everything that will happen to a response is decided when it is created and stored with it. Its status is then
only a question of the time, so nothing runs in between, and a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.model import Usage

__all__ = ["Record", "echoed_tier", "has_ended", "is_cut_off", "is_known", "shown_status", "true_status", "usage_at"]

# Tiers whose echo is another word than the request's (responses API, "service_tier").
_ECHOED_TIERS = {None: "default", "auto": "default", "fast": "priority"}
_OTHER_WORDS = {"queued": "pending", "in_progress": "running"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A response with its whole future. Times are Unix seconds; infinity means never.

    ``streamed`` says whether its events were asked for; only then can they be followed.
    ``end_status`` is the status that it reaches at ``ends_at`` unless it is cancelled before, ``usable`` whether it
    then answers what was asked, ``quirk`` the odd way in which it is shown, and ``lost_by`` the fault that ate the
    reply to its create. ``echo`` is a JSON object of the fields that never change, ``output`` the JSON list of the
    items of the finished response. ``hosted`` is a JSON object of the types of the ``tools`` offered and of the calls
    in the ``output``, as far as fees are charged for them.
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
    # The final status that a client was last told, if any.
    delivered: str | None = None


def echoed_tier(asked: str | None) -> str:
    """The service tier that a response says was used."""
    return _ECHOED_TIERS.get(asked) or str(asked)


def true_status(record: Record, now: float) -> str:
    """The status at a moment, whatever a look may show."""
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


def has_ended(record: Record, now: float) -> bool:
    """Whether the response is in a final state."""
    return true_status(record, now) not in _OTHER_WORDS


def shown_status(record: Record, now: float) -> str:
    """The status that a look shows."""
    if record.quirk == "stale_snapshot" and record.cancel_asked_at is None:
        return "queued"
    status = true_status(record, now)
    return _OTHER_WORDS.get(status, status) if record.quirk == "unknown_status" else status


def is_cut_off(record: Record, at: float) -> bool:
    """Whether a cancel came before that moment, and in time."""
    asked = record.cancel_asked_at
    return asked is not None and asked < record.ends_at and asked < at


def usage_at(record: Record, now: float) -> Usage | None:
    """What is billed so far: the tokens of a response that ran to its end, nothing for one that was cancelled."""
    return record.usage if true_status(record, now) == record.end_status else None


def is_known(record: Record, now: float, *, young_s: float, vanish_s: float) -> bool:
    """Whether a look finds the response; ``young_s`` and ``vanish_s`` are for the quirks that hide it."""
    if not record.stored or record.deleted_at is not None:
        return False
    if record.quirk == "young_404" and now < record.created_at + young_s:
        return False
    return not (record.quirk == "vanish" and now >= record.ends_at + vanish_s)
