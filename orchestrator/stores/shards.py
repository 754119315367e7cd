"""Shards: ranges of a run's requests, each of which one worker process holds at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.reads import OpenAttempt, PendingRequest

__all__ = ["MOST_SHARDS", "SHARD_ROWS", "Shard", "ShardReader", "shards_of", "worker_place"]

# Large enough that taking one costs nothing, small enough that the last ones end at about the same time.
SHARD_ROWS = 5_000
# Of one run; the last numbers are those of the places of its workers.
MOST_SHARDS = 1 << 20


@fast_dataclass(kw_only=False)
class Shard:
    """The requests of a run whose ids are in a range; numbers begin with 1."""

    number: int
    first_id: int
    last_id: int


def shards_of(first_id: int, last_id: int, rows: int) -> list[Shard]:
    """The shards of a run whose requests are in a range of ids, so many ids in each."""
    firsts = range(first_id, last_id + 1, rows)
    return [Shard(number, first, min(first + rows - 1, last_id)) for number, first in enumerate(firsts, 1)]


def worker_place(place: int) -> int:
    """The number under which a worker locks its place, so that no more of them work than share the limits."""
    return MOST_SHARDS - 1 - place


class ShardReader(Protocol):
    """What the engine reads of single shards, as ``PendingReader`` and ``RecoveryReader`` do of a whole run."""

    async def request_range(self, run_id: int) -> tuple[int, int] | None:
        """The first and the last id of a run's requests; None if it has none. Ids between may be of other runs."""
        ...

    async def has_unsettled(self, run_id: int, shard: Shard) -> bool:
        """Whether a request of a shard is not settled."""
        ...

    async def fresh_in(
        self, run_id: int, shard: Shard, *, stage: str, after_id: int, limit: int
    ) -> list[PendingRequest]:
        """As ``fresh``, of one shard."""
        ...

    async def delayed_in(self, run_id: int, shards: Sequence[Shard], *, limit: int) -> list[PendingRequest]:
        """As ``delayed``, of some shards."""
        ...

    async def open_in(self, run_id: int, shard: Shard) -> list[OpenAttempt]:
        """As ``open_attempts``, of one shard."""
        ...
