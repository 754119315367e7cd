"""Requests of later stages that wait for others, before they are stored."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["NewGroup", "NewMember"]


@fast_dataclass
class NewGroup:
    """A request that waits for others: ``members`` are the keys of requests of the stage ``of``, made before it."""

    stage: str
    key: str
    position: int
    where: str
    row: bytes
    of: str
    members: Sequence[str]
    passes_on: bool = False


@fast_dataclass
class NewMember:
    """A settled request that belongs to a group, which is made with ``row`` by its first member."""

    request_id: int
    stage: str
    key: str
    position: int
    where: str
    row: bytes
    passes_on: bool = False
