"""Requests of several turns and requests that wait for another one; in the writer's thread and transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import SETTLED, Event, State, first_state, move, moves, settled_by
from orchestrator.stores.reads import Continuation, Dependent, Duplicate, ToolCall
from orchestrator.stores.sql.attempt_ids import number_of
from orchestrator.stores.sql.transaction import SQL, Transaction, storable
from orchestrator.stores.writes import Leaving

__all__ = [
    "Settlement",
    "add_tool_call",
    "begin_turn",
    "join",
    "keep_conversation",
    "leave",
    "link_chains",
    "settle_dependents",
]


@fast_dataclass(kw_only=False)
class Settlement:
    """How a request was settled; ``attempt_id`` is the attempt that has its answer, or its last one."""

    event: Event
    at: float
    attempt_id: int | None
    code: str | None = None
    message: str | None = None


def settle_dependents(tx: Transaction, run_id: int, request_id: int, settlement: Settlement) -> list[Dependent]:
    """Move what waited for a request that is now settled."""
    if not tx.has_blocked(run_id):
        return []
    # In a pipeline groups wait all the time, but most requests are what nothing waits for, so ask first.
    if not any(tx.execute(SQL["what_waits_for"], {"request_id": request_id}).fetchone()):
        return []
    succeeded = settlement.event is Event.SUCCEED
    chosen = {"run_id": run_id, "request_id": request_id, "at": settlement.at}
    shared = {
        "answered_by": settlement.attempt_id if succeeded else None,
        "code": settlement.code,
        "message": settlement.message,
    }
    duplicates = _move_blocked(tx, "settle_duplicates", settlement.event, chosen | shared)
    tx.execute(SQL["lower_awaits"], {"request_id": request_id})
    if succeeded:
        tx.totals(run_id)["reused"] += len(duplicates)
        return duplicates + _move_blocked(tx, "unblock_next_turn", Event.UNBLOCK, chosen)
    broken: dict[str, Any] = {"code": "cancelled", "message": None}
    if settlement.event is not Event.CANCEL:
        message = f"an earlier turn of the chain failed with {settlement.code}"
        broken = {"code": "chain_broken", "message": message}
    return duplicates + _move_blocked(tx, "settle_later_turns", settlement.event, chosen | broken)


def _move_blocked(tx: Transaction, statement: str, event: Event, chosen: Mapping[str, Any]) -> list[Dependent]:
    source, to = State.BLOCKED, move(State.BLOCKED, event)
    states = {"from_state": source.value, "to_state": to.value, "settled_at": _settled_at(to, chosen["at"])}
    moved = tx.execute(SQL[statement], {**chosen, **states}).fetchall()
    for stage, _, _ in moved:
        tx.moved(chosen["run_id"], stage, source, to)
    return [Dependent(key, to, code) for _, key, code in moved]


def _settled_at(to: State, at: float) -> float | None:
    return at if to in SETTLED else None


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────


def begin_turn(tx: Transaction, request_id: int, continuation: Continuation) -> None:
    """The request, pending now, continues from a response of its own."""
    tx.execute(SQL["begin_turn"], {"request_id": request_id})
    tx.execute(SQL["put_continuation"], {"request_id": request_id, **asdict(continuation)})


def leave(tx: Transaction, leaving: Leaving) -> list[Dependent] | None:
    source, to, message = State.AWAITING_TOOLS, leaving.to, storable(leaving.message)
    moved = tx.execute(
        SQL["leave_tools"],
        {
            "request_id": leaving.request_id,
            "number": number_of(leaving.attempt_id),
            "from_state": source.value,
            "to_state": to.value,
            "not_before": leaving.at if to is State.PENDING else 0.0,
            "code": leaving.code,
            "message": message,
            "settled_at": _settled_at(to, leaving.at),
        },
    ).fetchall()
    if not moved:
        return None
    run_id, stage = moved[0]
    tx.moved(run_id, stage, source, to)
    tx.happened(run_id, leaving.at)
    if leaving.continuation is not None:
        begin_turn(tx, leaving.request_id, leaving.continuation)
        return []
    settlement = Settlement(leaving.event, leaving.at, leaving.attempt_id, leaving.code, message)
    return settle_dependents(tx, run_id, leaving.request_id, settlement)


def add_tool_call(tx: Transaction, call: ToolCall) -> None:
    texts = {"arguments": storable(call.arguments), "output": storable(call.output)}
    tx.execute(SQL["add_tool_call"], {**asdict(call), **texts, "failed": int(call.failed)})


# ── duplicates ────────────────────────────────────────────────────────────────────────────────────────────────


def join(
    tx: Transaction, request_id: int, original: Duplicate, fingerprint: bytes, at: float
) -> list[Dependent] | None:
    chosen = {"request_id": original.request_id}
    [(state, attempt_id, code, message)] = tx.execute(SQL["settlement_of"], chosen).fetchall()
    outcome = settled_by(State(state))
    if outcome is not None and outcome is not Event.SUCCEED and not original.here:
        return []  # other runs share answers, not failures
    source, to = State.PENDING, move(State.PENDING, outcome or Event.JOIN)
    succeeded = outcome is Event.SUCCEED
    moved = tx.execute(
        SQL["join_request"],
        {
            "request_id": request_id,
            "from_state": source.value,
            "to_state": to.value,
            "same_as": original.request_id if original.here else None,
            "fingerprint": fingerprint,
            "answered_by": attempt_id if succeeded else None,
            "code": code if outcome else None,
            "message": message if outcome else None,
            "settled_at": _settled_at(to, at),
        },
    ).fetchall()
    if not moved:
        return None
    run_id, stage, key = moved[0]
    if outcome is None and not original.here:
        tx.execute(SQL["wait_for"], (request_id, run_id, original.request_id, 0))
    tx.moved(run_id, stage, source, to)
    tx.totals(run_id)["reused"] += succeeded
    joined = [Dependent(key, to, code if outcome else None)]
    if outcome is None:
        return joined
    return joined + settle_dependents(tx, run_id, request_id, Settlement(outcome, at, attempt_id, code, message))


# ── chains ────────────────────────────────────────────────────────────────────────────────────────────────────


def link_chains(tx: Transaction, run_id: int, at: float) -> int:
    tx.execute(SQL["link_turns"], {"run_id": run_id, "state": first_state(in_chain=True).value})
    unblocked = 0
    for source, to in moves(Event.UNBLOCK):
        chosen = {"run_id": run_id, "at": at, "from_state": source.value, "to_state": to.value}
        stages = Counter(stage for (stage,) in tx.execute(SQL["unblock_first_turns"], chosen).fetchall())
        for stage, requests in stages.items():
            tx.moved(run_id, stage, source, to, requests)
        unblocked += stages.total()
    return unblocked


def keep_conversation(tx: Transaction, run_id: int, chain: str, conversation_id: str, endpoint: str | None) -> None:
    kept = {"run_id": run_id, "chain": chain, "conversation_id": conversation_id, "endpoint": endpoint}
    tx.execute(SQL["keep_conversation"], kept)
