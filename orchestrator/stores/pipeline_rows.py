"""Rows that pass from one stage of a run to the next, and groups that wait for several rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import NewRequest
from orchestrator.core.stage_rows import NewGroup, NewMember
from orchestrator.core.states import State

__all__ = [
    "GroupMember",
    "PartialGroups",
    "PassedOn",
    "ReadyGroup",
    "StageReader",
    "StageStore",
    "StageTally",
    "ToPassOn",
    "place_in_input",
]

_NUMBER = re.compile("([0-9]+)")

StageTally = Mapping[str, Counter[State]]


@fast_dataclass
class PassedOn:
    """What is made of settled requests, all in one transaction; ``rows`` and ``members`` name theirs by its id."""

    request_ids: Sequence[int]
    rows: Sequence[tuple[int, NewRequest]] = ()
    groups: Sequence[tuple[int, NewGroup]] = ()
    members: Sequence[NewMember] = ()


@fast_dataclass
class ToPassOn:
    """A settled request of which rows of later stages must be made. ``answer`` is None if it did not succeed."""

    request_id: int
    key: str
    stage: str
    position: int
    where: str
    row: bytes
    answer: str | None


@fast_dataclass
class ReadyGroup:
    """A group all of whose members are settled."""

    request_id: int
    key: str
    level: int
    position: int
    where: str
    row: bytes


@fast_dataclass
class GroupMember:
    """A settled member of a group. ``answer`` is None if it did not succeed.

    A member of an earlier ``stage`` is a row that failed on its way; once it succeeds, what is made of it takes its
    place.
    """

    stage: str
    key: str
    row: bytes
    answer: str | None


@fast_dataclass(kw_only=False)
class PartialGroups:
    """Of the answered groups of a stage: how many were asked without failed rows, and how many lack rows that are
    there now."""

    partial: int = 0
    outdated: int = 0


def place_in_input(position: int, key: str) -> tuple[int, list[str | int]]:
    """Sorts rows into the order of the input; those made of one row by the numbers in their keys.

    The order in which they were stored depends on which answer came first; the same group must ask the same again.
    """
    return position, [int(each) if place % 2 else each for place, each in enumerate(_NUMBER.split(key))]


class StageStore(Protocol):
    """The verbs of a store for stages; each returns when what it wrote is durable."""

    async def pass_on(self, run_id: int, passed: PassedOn) -> int:
        """Add what is made of settled requests, once for each of them; returns how many rows and groups were added.

        Of a request that was passed on before, nothing is added.
        """
        ...

    async def fill_group(self, group_id: int, row: bytes, *, missing: int, at: float) -> bool:
        """``UNBLOCK`` a group whose members are settled, with the row that it is asked with."""
        ...

    async def split_group(self, group: ReadyGroup, parts: Sequence[NewRequest], *, missing: int) -> int:
        """Let a group wait for new requests, which ask its rows in parts; returns how many were added."""
        ...

    async def fail_group(self, group_id: int, code: str, message: str, at: float) -> bool:
        """``FAIL`` a group that cannot be asked."""
        ...

    async def drop_group(self, group_id: int) -> bool:
        """Delete a group that has no rows."""
        ...

    async def seal_stage(self, run_id: int, stage: str, *, source: str | None) -> bool:
        """Record that no further row comes to a stage, if that is so.

        ``source`` is the stage before it; None is the input.
        """
        ...


class StageReader(Protocol):
    """What passes rows on reads."""

    async def to_pass_on(self, run_id: int, *, limit: int) -> list[ToPassOn]: ...

    async def ready_groups(self, run_id: int, stage: str, *, limit: int) -> list[ReadyGroup]:
        """Groups of a stage that wait for no member; those by a column may still get some until it is sealed."""
        ...

    async def members(self, group_id: int) -> list[GroupMember]:
        """The members of a group, in the order of the input."""
        ...

    async def lost_rows(self, run_id: int, stage: str, *, sources: Sequence[str]) -> int:
        """How many rows of the stages ``sources`` failed and belong to no group of ``stage``."""
        ...

    async def sealed_stages(self, run_id: int) -> set[str]: ...

    async def partial_groups(self, run_id: int) -> Mapping[str, PartialGroups]:
        """The stages with answered groups; a row of a group that was split into parts is not looked for."""
        ...

    async def stage_tally(self, run_id: int) -> StageTally:
        """How many requests of each stage are in each state."""
        ...
