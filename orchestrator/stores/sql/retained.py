"""Retention in SQL; see ``stores.retained`` for what is promised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.core.states import State
from orchestrator.stores.retained import ObjectKind, ProviderObject, Retained
from orchestrator.stores.sql import bulk_updates
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import Transaction

__all__ = ["SqlRetentionReader", "SqlRetentionStore"]

T = TypeVar("T")

_SQL = queries("retained.sql")
_OBJECTS = {
    ObjectKind.RESPONSE: "response_objects",
    ObjectKind.CONVERSATION: "conversation_objects",
    ObjectKind.FILE: "file_objects",
}


class SqlRetentionStore:
    """The writing half, for a store that has a writer."""

    _writer: GroupWriter

    async def keep_policy(self, run_id: int, provider: str, policy: str) -> None:
        await self._execute("keep_policy", run_id=run_id, provider=provider, policy=policy)

    async def note_export(self, run_id: int, at: float) -> None:
        await self._execute("note_export", run_id=run_id, at=at)

    async def note_deleted(self, run_id: int, gone: ProviderObject, *, was_there: bool, at: float) -> None:
        columns = {"kind": gone.kind.value, "provider_id": gone.provider_id, "was_there": int(was_there), "at": at}
        await self._execute("note_deleted", run_id=run_id, **columns)

    async def drop(self, run_id: int, *, inputs: bool, outputs: bool) -> None:
        bounds = await self._writer.write(bulk_updates.request_bounds, run_id)
        for ids in bulk_updates.id_ranges(bounds):
            await self._writer.write(_drop, run_id, ids, inputs, outputs)

    async def _execute(self, statement: str, **columns: Any) -> None:
        await self._writer.write(_execute, statement, columns)


class SqlRetentionReader:
    """The reading half, for a reader that can run a function on its connection."""

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        raise NotImplementedError

    async def retained(self, run_id: int) -> Retained | None:
        return await self._read(lambda connection: _retained(connection, run_id))

    async def provider_objects(
        self, run_id: int, kind: ObjectKind, *, ended_before: float, after: int, limit: int
    ) -> list[ProviderObject]:
        chosen = {"run_id": run_id, "ended_before": ended_before, "after": after, "limit": limit}
        rows = await self._ask(_OBJECTS[kind], **chosen)
        if kind is ObjectKind.RESPONSE:
            return [ProviderObject(kind, row["provider_id"], row["place"], row["endpoint"]) for row in rows]
        return [ProviderObject(kind, row["provider_id"], endpoint=row["endpoint"]) for row in rows]

    async def without_data(
        self, run_id: int, states: Sequence[State], code: str | None, *, flag: str | None = None
    ) -> int:
        wanted = json.dumps([state.value for state in states])
        [found] = await self._ask("without_data", run_id=run_id, states=wanted, code=code, flag=flag)
        requests: int = found["requests"]
        return requests

    async def _ask(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(_SQL[query], parameters))


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _execute(tx: Transaction, statement: str, columns: dict[str, Any]) -> None:
    tx.execute(_SQL[statement], columns)


def _drop(tx: Transaction, run_id: int, ids: bulk_updates.IdRange, inputs: bool, outputs: bool) -> None:
    chosen = ids.of(run_id)
    dropped = Counter[str]()
    tx.execute(_SQL["overwrite"])
    if inputs:
        dropped["inputs"] = tx.execute(_SQL["drop_inputs"], chosen).rowcount
        tx.execute(_SQL["drop_continuations"], chosen)
    if outputs:
        dropped["outputs"] = tx.execute(_SQL["drop_outputs"], chosen).rowcount
        tx.execute(_SQL["drop_tool_calls"], chosen)
    tx.execute(_SQL["overwrite_no_more"])
    tx.execute(_SQL["count_dropped"], {"run_id": run_id, "inputs": dropped["inputs"], "outputs": dropped["outputs"]})


def _retained(connection: SqlConnection, run_id: int) -> Retained | None:
    found = connection.rows(_SQL["retention"], {"run_id": run_id})
    if not found:
        return None
    deleted, unknown = Counter[ObjectKind](), 0
    for row in connection.rows(_SQL["deleted_counts"], {"run_id": run_id}):
        deleted[ObjectKind(row["kind"])] += row["copies"]
        unknown += 0 if row["was_there"] else row["copies"]
    return Retained(
        provider=found[0]["provider"],
        policy=found[0]["policy"],
        exported_at=found[0]["exported_at"],
        inputs_dropped=found[0]["inputs_dropped"],
        outputs_dropped=found[0]["outputs_dropped"],
        deleted=dict(deleted),
        unknown=unknown,
    )
