"""Stages in SQL; see ``stores.pipeline_rows`` for what is promised."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.core.model import NewRequest
from orchestrator.core.stage_rows import NewGroup, NewMember
from orchestrator.core.states import Event, State, first_state, move, moves
from orchestrator.stores.pipeline_rows import (
    GroupMember,
    PartialGroups,
    PassedOn,
    ReadyGroup,
    ToPassOn,
    place_in_input,
)
from orchestrator.stores.sql.compression import pack_row, unpack_row
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.dependents import Settlement, settle_dependents
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import SQL, Transaction, storable
from orchestrator.stores.writes import Requeue

__all__ = ["SqlStageReader", "SqlStageStore", "add_groups", "block_groups", "mark_to_pass_on", "recount"]

T = TypeVar("T")

_SQL = queries("stages.sql")


class SqlStageStore:
    """The writing half, for a store that has a writer."""

    _writer: GroupWriter

    async def pass_on(self, run_id: int, passed: PassedOn) -> int:
        return await self._writer.write(_pass_on, run_id, passed)

    async def fill_group(self, group_id: int, row: bytes, *, missing: int, at: float) -> bool:
        return await self._writer.write(_fill_group, group_id, row, missing, at)

    async def split_group(self, group: ReadyGroup, parts: Sequence[NewRequest], *, missing: int) -> int:
        return await self._writer.write(_split_group, group, parts, missing)

    async def fail_group(self, group_id: int, code: str, message: str, at: float) -> bool:
        return await self._writer.write(_fail_group, group_id, code, message, at)

    async def drop_group(self, group_id: int) -> bool:
        return await self._writer.write(_drop_group, group_id)

    async def seal_stage(self, run_id: int, stage: str, *, source: str | None) -> bool:
        return await self._writer.write(_seal_stage, run_id, stage, source)


class SqlStageReader:
    """The reading half, for a reader that can run a function on its connection."""

    async def _read(self, function: Callable[[SqlConnection], T]) -> T:
        raise NotImplementedError

    async def to_pass_on(self, run_id: int, *, limit: int) -> list[ToPassOn]:
        rows = await self._ask_stages("to_pass_on", run_id=run_id, limit=limit)
        return [
            ToPassOn(
                request_id=row["id"],
                key=row["key"],
                stage=row["stage"],
                position=row["position"],
                where=row["source"],
                row=unpack_row(row["data"]),
                answer=_answer(row),
            )
            for row in rows
        ]

    async def ready_groups(self, run_id: int, stage: str, *, limit: int) -> list[ReadyGroup]:
        rows = await self._ask_stages("ready_groups", run_id=run_id, stage=stage, limit=limit)
        return [
            ReadyGroup(
                request_id=row["id"],
                key=row["key"],
                level=row["level"],
                position=row["position"],
                where=row["source"],
                row=unpack_row(row["data"]),
            )
            for row in rows
        ]

    async def members(self, group_id: int) -> list[GroupMember]:
        rows = await self._ask_stages("members", group_id=group_id)
        rows.sort(key=lambda row: place_in_input(row["position"], row["key"]))
        return [
            GroupMember(stage=row["stage"], key=row["key"], row=unpack_row(row["data"]), answer=_answer(row))
            for row in rows
        ]

    async def lost_rows(self, run_id: int, stage: str, *, sources: Sequence[str]) -> int:
        named = json.dumps(list(sources))
        [row] = await self._ask_stages("lost_rows", run_id=run_id, stage=stage, sources=named)
        lost: int = row["lost"]
        return lost

    async def sealed_stages(self, run_id: int) -> set[str]:
        return {row["name"] for row in await self._ask_stages("sealed_stages", run_id=run_id)}

    async def partial_groups(self, run_id: int) -> dict[str, PartialGroups]:
        rows = await self._ask_stages("partial_groups", run_id=run_id)
        return {row["stage"]: PartialGroups(row["partial"], row["outdated"]) for row in rows}

    async def stage_tally(self, run_id: int) -> dict[str, Counter[State]]:
        tally: dict[str, Counter[State]] = defaultdict(Counter)
        for row in await self._ask_stages("stage_tally", run_id=run_id):
            tally[row["stage"]][State(row["state"])] = row["requests"]
        return dict(tally)

    async def _ask_stages(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(_SQL[query], parameters))


def _answer(row: Row) -> str | None:
    return (row["output_text"] or "") if row["state"] == State.SUCCEEDED else None


# ── in the writer's thread and transaction ────────────────────────────────────────────────────────────────────


def mark_to_pass_on(tx: Transaction, request_ids: Sequence[int]) -> None:
    """Note that rows of later stages will be made of new requests, once they are settled."""
    tx.execute_many(_SQL["mark_to_pass_on"], [{"id": each} for each in request_ids])


def add_groups(tx: Transaction, run_id: int, groups: Sequence[NewGroup]) -> int:
    """Add groups whose members were added before; one that is there already is left as it is."""
    added = 0
    for group in groups:
        if _id_of_key(tx, run_id, group.stage, group.key) is not None:
            continue
        group_id = _add_group(tx, run_id, group)
        tx.execute_many(
            _SQL["add_member"],
            [{"group_id": group_id, "request_id": _id_of_key(tx, run_id, group.of, key)} for key in group.members],
        )
        tx.execute(_SQL["count_awaited"], {"id": group_id})
        added += 1
    return added


def _add_group(tx: Transaction, run_id: int, group: NewGroup | NewMember) -> int:
    """Add a group without members, with a key that no other has; returns its id."""
    group_id = tx.last_request_id() + 1
    state = first_state(in_chain=True)
    columns = {"id": group_id, "run_id": run_id, "stage": group.stage, "key": group.key, "state": state.value}
    tx.execute(_SQL["add_group"], {**columns, "to_pass_on": int(group.passes_on)})
    row = {"id": group_id, "position": group.position, "source": group.where, "data": pack_row(group.row)}
    tx.execute(SQL["add_input_row"], row)
    tx.moved(run_id, group.stage, None, state)
    tx.execute(_SQL["move_last_id"], {"run_id": run_id, "first_id": group_id, "last_id": group_id})
    return group_id


def _add_requests(tx: Transaction, run_id: int, rows: Sequence[NewRequest]) -> list[tuple[int, NewRequest]]:
    """Add requests with keys that no other request of their stage has; returns them with their ids."""
    if not rows:
        return []
    before = tx.last_request_id()
    state = first_state(in_chain=False)
    added = list(enumerate(rows, start=before + 1))
    records = [
        {"id": request_id, "run_id": run_id, "stage": row.stage, "key": row.key, "state": state.value}
        for request_id, row in added
    ]
    if tx.execute_many(SQL["add_request"], records) != len(records):
        ids = {request_id for (request_id,) in tx.execute(SQL["requests_after"], {"id": before})}
        added = [(request_id, row) for request_id, row in added if request_id in ids]
    tx.execute_many(
        SQL["add_input_row"],
        [
            {"id": request_id, "position": row.position, "source": row.where, "data": pack_row(row.row)}
            for request_id, row in added
        ],
    )
    for stage, requests in Counter(row.stage for _, row in added).items():
        tx.moved(run_id, stage, None, state, requests)
    mark_to_pass_on(tx, [request_id for request_id, row in added if row.passes_on])
    tx.execute(_SQL["move_last_id"], {"run_id": run_id, "first_id": before + 1, "last_id": before + len(rows)})
    return added


def _pass_on(tx: Transaction, run_id: int, passed: PassedOn) -> int:
    fresh = {each for each in passed.request_ids if tx.execute(_SQL["passed_on"], {"id": each}).rowcount}
    rows = _add_requests(tx, run_id, [row for source_id, row in passed.rows if source_id in fresh])
    groups = add_groups(tx, run_id, [group for source_id, group in passed.groups if source_id in fresh])
    members = [member for member in passed.members if member.request_id in fresh]
    return len(rows) + groups + _add_members(tx, run_id, members)


def _add_members(tx: Transaction, run_id: int, members: Sequence[NewMember]) -> int:
    """Add settled requests to their groups; returns how many groups are new."""
    ids: dict[tuple[str, str], int] = {}
    added = 0
    for member in members:
        name = (member.stage, member.key)
        if name not in ids:
            found = _id_of_key(tx, run_id, *name)
            if found is None:
                found, added = _add_group(tx, run_id, member), added + 1
            ids[name] = found
    tx.execute_many(
        _SQL["add_member"],
        [{"group_id": ids[each.stage, each.key], "request_id": each.request_id} for each in members],
    )
    return added


def _id_of_key(tx: Transaction, run_id: int, stage: str, key: str) -> int | None:
    found = tx.execute(_SQL["id_of_key"], {"run_id": run_id, "stage": stage, "key": key}).fetchone()
    return None if found is None else found[0]


def _fill_group(tx: Transaction, group_id: int, row: bytes, missing: int, at: float) -> bool:
    source, to = State.BLOCKED, move(State.BLOCKED, Event.UNBLOCK)
    chosen = {"id": group_id, "missing": missing, "at": at, "from_state": source.value, "to_state": to.value}
    if not tx.execute(_SQL["fill_group"], chosen).rowcount:
        return False
    run_id, stage = _place_of(tx, group_id)
    tx.execute(_SQL["put_row"], {"id": group_id, "data": pack_row(row)})
    tx.execute(_SQL["place_group"], {"group_id": group_id})
    tx.moved(run_id, stage, source, to)
    return True


def _place_of(tx: Transaction, request_id: int) -> tuple[int, str]:
    run_id, stage = tx.execute(_SQL["place_of"], {"id": request_id}).fetchone()
    return run_id, stage


def _split_group(tx: Transaction, group: ReadyGroup, parts: Sequence[NewRequest], missing: int) -> int:
    chosen = {"id": group.request_id, "missing": missing, "level": group.level, "from_state": State.BLOCKED.value}
    if not tx.execute(_SQL["split_group"], chosen).rowcount:
        return 0
    run_id, _ = _place_of(tx, group.request_id)
    added = _add_requests(tx, run_id, parts)
    tx.execute(_SQL["place_group"], {"group_id": group.request_id})
    tx.execute(_SQL["drop_members"], {"group_id": group.request_id})
    tx.execute_many(
        _SQL["add_member"], [{"group_id": group.request_id, "request_id": request_id} for request_id, _ in added]
    )
    tx.execute(_SQL["count_awaited"], {"id": group.request_id})
    return len(added)


def _fail_group(tx: Transaction, group_id: int, code: str, message: str, at: float) -> bool:
    source, event, text = State.BLOCKED, Event.FAIL, storable(message)
    to = move(source, event)
    states = {"from_state": source.value, "to_state": to.value}
    chosen = {"id": group_id, "code": code, "message": text, "at": at}
    moved = tx.execute(_SQL["fail_group"], chosen | states).fetchall()
    for run_id, stage in moved:
        tx.moved(run_id, stage, source, to)
        settle_dependents(tx, run_id, group_id, Settlement(event, at, None, code, text))
    return bool(moved)


def _drop_group(tx: Transaction, group_id: int) -> bool:
    run_id, stage = _place_of(tx, group_id)
    for statement in ("drop_members", "drop_row"):
        tx.execute(_SQL[statement], {"group_id": group_id} if statement == "drop_members" else {"id": group_id})
    if not tx.execute(_SQL["drop_group"], {"id": group_id, "from_state": State.BLOCKED.value}).rowcount:
        raise ValueError("only a group that waits for nothing can be dropped")
    tx.moved(run_id, stage, None, State.BLOCKED, -1)
    return True


def _seal_stage(tx: Transaction, run_id: int, stage: str, source: str | None) -> bool:
    [may_seal] = tx.execute(_SQL["may_seal"], {"run_id": run_id, "source": source}).fetchone()
    may_seal = may_seal and not (source is not None and tx.unsettled(run_id, source))
    if may_seal:
        tx.execute(_SQL["seal_stage"], {"run_id": run_id, "name": stage})
    return bool(may_seal)


def recount(tx: Transaction, run_id: int) -> None:
    """Count again what each group of a run waits for, after many requests were moved at once."""
    tx.execute(_SQL["recount_awaited"], {"run_id": run_id})


def block_groups(tx: Transaction, requeue: Requeue) -> int:
    """Let groups that were never sent wait for their rows again, and open the stages; returns how many groups."""
    run_id, blocked = requeue.run_id, dict(moves(Event.BLOCK))
    states = json.dumps([state.value for state in requeue.states])
    broken = tx.execute(
        _SQL["broken_groups"], {"run_id": run_id, "states": states, "stage": requeue.stage}
    ).fetchall()
    for group_id, stage, state in broken:
        to = blocked[State(state)]
        tx.execute(SQL["block_again"], {"id": group_id, "from_state": state, "to_state": to.value})
        tx.moved(run_id, stage, State(state), to)
    if broken:
        tx.execute(SQL["reopen_run"], {"run_id": run_id})
    recount(tx, run_id)
    tx.execute(_SQL["unseal_stages"], {"run_id": run_id})
    return len(broken)
