"""The progress events that the stream of a response sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["ProgressEvent", "StreamEventReader", "StreamEventStore"]


@fast_dataclass
class ProgressEvent:
    """One event of a response's stream; ``item`` is the type of the output item that it is about."""

    sequence: int
    type: str
    item: str | None
    at: float


class StreamEventStore(Protocol):
    """The verb of a store for stream events; it returns when what it wrote is durable."""

    async def add_progress(self, attempt_id: int, events: Sequence[ProgressEvent]) -> None:
        """Record events of a stream; an event that is recorded already changes nothing."""
        ...


class StreamEventReader(Protocol):
    """What the stream listener and ``show`` read."""

    async def progress(self, attempt_id: int) -> list[ProgressEvent]:
        """The recorded events of an attempt, in their order."""
        ...

    async def last_progress(self, attempt_id: int) -> int | None:
        """The sequence number of the last recorded event."""
        ...
