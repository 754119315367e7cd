"""Shards in SQL; see ``stores.shards`` for what is promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.stores.reads import OpenAttempt, PendingRequest
from orchestrator.stores.shards import Shard
from orchestrator.stores.sql import row_mapping
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.queries import queries

__all__ = ["SqlShardReader"]

T = TypeVar("T")

_SQL = queries("shards.sql")
_WHOLE = queries("read.sql")


def _within(statement: str, clause: str, bound: str) -> str:
    """A statement about a whole run, bounded to a part of it by a condition after one of its own."""
    if statement.count(clause) != 1:
        raise ValueError(f"{clause!r} is not in the statement once")
    return statement.replace(clause, f"{clause} AND {bound}")


_FRESH = _within(_WHOLE["fresh"], "request.id > :after_id", "request.id <= :last_id")
_DELAYED = _within(
    _WHOLE["delayed"],
    "request.not_before > 0",
    "EXISTS (SELECT 1 FROM json_each(:firsts) AS first WHERE request.id"
    " BETWEEN CAST(first.value AS BIGINT) AND CAST(first.value AS BIGINT) + :more)",
)
_OPEN = _within(_WHOLE["open_attempts"], "request.settled_at IS NULL", "request.id BETWEEN :first_id AND :last_id")


class SqlShardReader:
    """The reading half, for a reader that can run a function on its connection."""

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        raise NotImplementedError

    async def request_range(self, run_id: int) -> tuple[int, int] | None:
        found = await self._shard_rows(_SQL["request_range"], run_id=run_id)
        return (found[0]["first_request_id"], found[0]["last_request_id"]) if found else None

    async def has_unsettled(self, run_id: int, shard: Shard) -> bool:
        [row] = await self._shard_rows(_SQL["has_unsettled"], run_id=run_id, **_bounds(shard))
        return bool(row["found"])

    async def fresh_in(
        self, run_id: int, shard: Shard, *, stage: str, after_id: int, limit: int
    ) -> list[PendingRequest]:
        after_id = max(after_id, shard.first_id - 1)
        chosen = {"run_id": run_id, "stage": stage, "after_id": after_id, "last_id": shard.last_id, "limit": limit}
        # In the thread, because long rows are expanded there.
        return await self._read(
            lambda connection: [row_mapping.pending(row) for row in connection.rows(_FRESH, chosen)]
        )

    async def delayed_in(self, run_id: int, shards: Sequence[Shard], *, limit: int) -> list[PendingRequest]:
        firsts = [shard.first_id for shard in shards]
        more = max((shard.last_id - shard.first_id for shard in shards), default=0)
        chosen = {"run_id": run_id, "firsts": json.dumps(firsts), "more": more, "limit": limit}
        return await self._read(
            lambda connection: [row_mapping.delayed(row) for row in connection.rows(_DELAYED, chosen)]
        )

    async def open_in(self, run_id: int, shard: Shard) -> list[OpenAttempt]:
        found = await self._shard_rows(_OPEN, run_id=run_id, **_bounds(shard))
        return [row_mapping.open_attempt(row) for row in found]

    async def _shard_rows(self, statement: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(statement, parameters))


def _bounds(shard: Shard) -> dict[str, int]:
    return {"first_id": shard.first_id, "last_id": shard.last_id}
