"""Retention: what a run must keep, and what the provider still keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import State

__all__ = ["ObjectKind", "ProviderObject", "Retained", "RetentionReader", "RetentionStore"]


class ObjectKind(StrEnum):
    """What a provider keeps of a run."""

    RESPONSE = "response"
    CONVERSATION = "conversation"
    FILE = "file"


@fast_dataclass(kw_only=False)
class ProviderObject:
    """One object that the provider keeps of a run; ``place`` is where the next page begins, for the same driver."""

    kind: ObjectKind
    provider_id: str
    place: int = 0
    # The endpoint that has it, by its name or address.
    endpoint: str | None = field(default=None, compare=False)


@fast_dataclass
class Retained:
    """What a run must keep, and what was deleted of it.

    ``provider`` is where its responses are; ``policy`` is the job's section as JSON. ``deleted`` counts the
    provider's objects that are gone, ``unknown`` those of them that were already gone when we came to delete them.
    """

    provider: str
    policy: str
    exported_at: float | None
    inputs_dropped: int
    outputs_dropped: int
    deleted: dict[ObjectKind, int]
    unknown: int


class RetentionStore(Protocol):
    """The verbs of a store for retention; each returns when what it wrote is durable."""

    async def keep_policy(self, run_id: int, provider: str, policy: str) -> None:
        """Record where a run's responses are and what of it must be kept."""
        ...

    async def note_export(self, run_id: int, at: float) -> None:
        """Record that all results of a run were written to a file."""
        ...

    async def note_deleted(self, run_id: int, gone: ProviderObject, *, was_there: bool, at: float) -> None:
        """Record that the provider no longer has an object."""
        ...

    async def drop(self, run_id: int, *, inputs: bool, outputs: bool) -> None:
        """Remove the data of settled rows, or their answers; their charges, times and keys stay.

        What another run shares stays with both.
        """
        ...


class RetentionReader(Protocol):
    """What retention and ``purge`` read."""

    async def retained(self, run_id: int) -> Retained | None:
        """What a run must keep; None if no process ever worked on it."""
        ...

    async def provider_objects(
        self, run_id: int, kind: ObjectKind, *, ended_before: float, after: int, limit: int
    ) -> list[ProviderObject]:
        """What the provider still has of a run, as far as is known.

        ``ended_before`` leaves younger responses out. Only responses come in pages: the next one begins after the
        ``place`` of the last object; 0 begins with the first.
        """
        ...

    async def without_data(
        self, run_id: int, states: Sequence[State], code: str | None, *, flag: str | None = None
    ) -> int:
        """How many requests in these states cannot be sent again because the data of their rows was dropped."""
        ...
