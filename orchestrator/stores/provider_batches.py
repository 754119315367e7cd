"""Batches at the provider: what is stored of them before, while and after their requests are carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.stores.reads import Duplicate, OpenAttempt, OtherRequest, Spending
from orchestrator.stores.writes import Claim

__all__ = ["BatchNote", "Claimed", "NewProviderBatch", "ProviderBatch", "ProviderBatchReader", "ProviderBatchStore"]

# What became a line, by the id of its attempt; or why a request did not: see ``Store.claim``.
Claimed: TypeAlias = int | Spending | Duplicate | list[OtherRequest] | None


@fast_dataclass
class NewProviderBatch:
    """A batch that is about to be created; ``uid`` is its mark at the provider."""

    run_id: int
    stage: str
    model: str
    uid: str
    tokens: int
    made_at: float


@fast_dataclass
class ProviderBatch:
    """A batch as it is stored. ``asked_at`` is when its creation was begun, and ``status`` the provider's word."""

    id: int
    run_id: int
    stage: str
    model: str
    uid: str
    lines: int
    tokens: int
    made_at: float
    input_file: str | None = None
    batch_id: str | None = None
    status: str | None = None
    asked_at: float | None = None
    submitted_at: float | None = None
    ended_at: float | None = None
    collected_at: float | None = None


@fast_dataclass
class BatchNote:
    """What is known of a batch from now on; None leaves what is stored."""

    input_file: str | None = None
    status: str | None = None
    asked_at: float | None = None
    ended_at: float | None = None
    collected_at: float | None = None
    file_deleted_at: float | None = None


class ProviderBatchStore(Protocol):
    """The verbs of a store for batches; each returns when what it wrote is durable."""

    async def claim_batch(self, batch: NewProviderBatch, claims: Sequence[Claim]) -> tuple[int | None, list[Claimed]]:
        """``CLAIM`` many requests as the lines of one batch, in one transaction, each as ``Store.claim`` does.

        Returns the batch, and for each request its attempt or why it is no line; None without any line.
        """
        ...

    async def note_batch(self, batch: int, note: BatchNote) -> None:
        """Record what is known of a batch."""
        ...

    async def attach_batch(self, batch: int, batch_id: str, status: str, at: float) -> int:
        """``ACCEPT`` all lines of a batch that was created; returns how many moved."""
        ...


class ProviderBatchReader(Protocol):
    """What the lane of batches reads."""

    async def batches(self, run_id: int, *, unfinished: bool) -> list[ProviderBatch]:
        """The batches of a run; only those whose lines or whose file are still at the provider if ``unfinished``."""
        ...

    async def open_lines(
        self, batch: int, *, attempt_ids: Sequence[int] | None = None, limit: int
    ) -> list[OpenAttempt]:
        """The lines of a batch whose requests have not ended, or those among some attempts, in their order."""
        ...

    async def line_attempts(self, batch: int, numbers: Sequence[int]) -> dict[int, int]:
        """The attempts at some places of a batch's file, which count from 1: its lines are in the order of theirs."""
        ...

    async def reserved_for_batch(self, batch: int) -> Picodollars:
        """What is reserved for the lines of a batch that have not ended."""
        ...
