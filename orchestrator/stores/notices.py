"""The outbox of notifications: what is still to be delivered, written with the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["MOST_TRIES", "REPEAT_AFTER_S", "NewNotice", "NoticeStore", "PendingNotice"]

# A run that halts again and again for one cause is announced once a day.
REPEAT_AFTER_S = 86_400.0
# Then a notice is given up: its receiver is gone, or refuses it.
MOST_TRIES = 50


@fast_dataclass
class NewNotice:
    """A notice for one receiver. ``cause`` distinguishes ends of the same event, such as two reasons for a halt.

    ``run_id`` is None if it is about a job that has no run.
    """

    message_id: str
    run_id: int | None
    event: str
    cause: str
    receiver: str
    payload: bytes
    created_at: float


@fast_dataclass
class PendingNotice:
    """A notice that was not delivered yet, and how often that was tried."""

    message_id: str
    run_id: int | None
    event: str
    receiver: str
    payload: bytes
    tries: int


class NoticeStore(Protocol):
    """The verbs of a store for notices; each returns when what it wrote is durable. ``set_run_state`` adds most."""

    async def add_notices(self, notices: Sequence[NewNotice]) -> None:
        """Add notices that are of no end of a run; one whose id is known is left out."""
        ...

    async def take_notices(self, receivers: Sequence[str], *, at: float, for_s: float) -> list[PendingNotice]:
        """Notices for these receivers that are not delivered, taken by this caller for a time: no other gets them."""
        ...

    async def note_delivery(self, message_id: str, *, delivered: bool, error: str | None, at: float) -> None:
        """Record a try."""
        ...
