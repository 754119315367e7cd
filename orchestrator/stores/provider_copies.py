"""What a store does for retention, uploaded files and the progress of streams: ``Keeper`` writes, ``Kept`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestrator.core.states import State

__all__ = ["ObjectKind", "ProgressEvent", "ProviderObject", "Retained", "RetentionReader", "RetentionStore", "Upload"]


class ObjectKind(StrEnum):
    """What a provider keeps of a run."""

    RESPONSE = "response"
    CONVERSATION = "conversation"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ProviderObject:
    """One thing that the provider keeps of a run; ``place`` is where to go on reading after it."""

    kind: ObjectKind
    provider_id: str
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What a run is to keep and what became of it.

    ``provider`` is where its responses are; ``policy`` is the job's section as JSON. ``deleted`` counts the
    provider's copies that are gone, ``unknown`` those of them that were not there when we came to delete them.
    """

    provider: str
    policy: str
    exported_at: float | None
    inputs_dropped: int
    outputs_dropped: int
    deleted: dict[ObjectKind, int]
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file at the provider, by its content."""

    file_id: str
    provider: str
    sha256: bytes
    name: str
    bytes: int
    uploaded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """One thing that the stream of a response told; ``item`` is the type of the output item that it is about."""

    sequence: int
    type: str
    item: str | None
    at: float


class RetentionStore(Protocol):
    """The verbs of a store; each returns when what it wrote is durable."""

    async def keep_policy(self, run_id: int, provider: str, policy: str) -> None:
        """Note where a run's responses are and what of it is to be kept."""
        ...

    async def note_export(self, run_id: int, at: float) -> None:
        """Note that all results of a run were written to a file."""
        ...

    async def note_deleted(self, run_id: int, copy: ProviderObject, *, was_there: bool, at: float) -> None:
        """Note that the provider has a copy no longer."""
        ...

    async def drop(self, run_id: int, *, inputs: bool, outputs: bool) -> None:
        """Remove the data of settled rows, and what was answered; their charges, times and keys stay.

        What another run shares stays with both.
        """
        ...

    async def add_upload(self, upload: Upload, run_id: int) -> None:
        """Note a file that was uploaded, and that a run uses it."""
        ...

    async def use_upload(self, file_id: str, run_id: int) -> None:
        """Note that a run uses a file."""
        ...

    async def add_progress(self, attempt_id: int, events: Sequence[ProgressEvent]) -> None:
        """Keep what a stream told; an event that is there already changes nothing."""
        ...


class RetentionReader(Protocol):
    """The questions to a reader."""

    async def retained(self, run_id: int) -> Retained | None:
        """What a run is to keep; None for one that was never worked on."""
        ...

    async def copies(
        self, run_id: int, kind: ObjectKind, *, ended_before: float, after: int, limit: int
    ) -> list[ProviderObject]:
        """What the provider still has of a run, as far as is known.

        ``ended_before`` leaves younger responses out; only responses come in parts, from behind ``after``.
        """
        ...

    async def without_data(self, run_id: int, states: Sequence[State], code: str | None) -> int:
        """How many requests in these states cannot be sent again, because the data of their rows was dropped."""
        ...

    async def upload(self, provider: str, sha256: bytes) -> Upload | None:
        """The file of that content at a provider, unless we deleted it."""
        ...

    async def progress(self, attempt_id: int) -> list[ProgressEvent]:
        """What the stream of a response told, in its order."""
        ...

    async def last_progress(self, attempt_id: int) -> int | None:
        """The sequence number of the last event that was kept."""
        ...
