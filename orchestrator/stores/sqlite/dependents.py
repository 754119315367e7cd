"""Requests of several turns and requests that wait for another one; in the writer's thread and transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import SETTLED, State
from orchestrator.stores.reads import Continuation, Dependent, Duplicate, ToolCall
from orchestrator.stores.sqlite.attempt_ids import number_of
from orchestrator.stores.sqlite.transaction import SQL, Transaction
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
    """How a request was settled; ``attempt_id`` is the one that has its answer, or its last one."""

    to: State
    at: float
    attempt_id: int | None
    code: str | None = None
    message: str | None = None


def settle_dependents(tx: Transaction, run_id: int, request_id: int, fate: Settlement) -> list[Dependent]:
    """Move what waited for a request that is now settled."""
    if not tx.has_blocked(run_id):
        return []
    succeeded = fate.to is State.SUCCEEDED
    equals = tx.execute(
        SQL["settle_equals"],
        {
            "request_id": request_id,
            "to": fate.to.value,
            "answered_by": fate.attempt_id if succeeded else None,
            "code": fate.code,
            "message": fate.message,
            "at": fate.at,
        },
    ).fetchall()
    moved = _moved(tx, run_id, equals, fate.to)
    if succeeded:
        tx.totals(run_id)["reused"] += len(equals)
        going = tx.execute(SQL["unblock_next"], {"request_id": request_id, "at": fate.at}).fetchall()
        return moved + _moved(tx, run_id, going, State.PENDING)
    cancelled = fate.to is State.CANCELLED
    rest = tx.execute(
        SQL["fail_rest"],
        {
            "request_id": request_id,
            "to": fate.to.value,
            "code": "cancelled" if cancelled else "chain_broken",
            "message": None if cancelled else f"an earlier turn of the chain failed with {fate.code}",
            "at": fate.at,
        },
    ).fetchall()
    return moved + _moved(tx, run_id, rest, fate.to)


def _moved(tx: Transaction, run_id: int, rows: list[tuple[str, str, str | None]], to: State) -> list[Dependent]:
    for stage, _, _ in rows:
        tx.moved(run_id, stage, State.BLOCKED, to)
    return [Dependent(key, to, code) for _, key, code in rows]


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────


def begin_turn(tx: Transaction, request_id: int, continuation: Continuation) -> None:
    """The request, pending now, goes on from a response of its own."""
    tx.execute(SQL["begin_turn"], {"request_id": request_id})
    tx.execute(SQL["put_continuation"], {"request_id": request_id, **asdict(continuation)})


def leave(tx: Transaction, leaving: Leaving) -> list[Dependent] | None:
    moved = tx.execute(
        SQL["leave_acting"],
        {
            "request_id": leaving.request_id,
            "number": number_of(leaving.attempt_id),
            "to": leaving.to.value,
            "not_before": leaving.at if leaving.to is State.PENDING else 0.0,
            "code": leaving.code,
            "message": leaving.message,
            "settled_at": leaving.at if leaving.to in SETTLED else None,
        },
    ).fetchall()
    if not moved:
        return None
    run_id, stage = moved[0]
    tx.moved(run_id, stage, State.AWAITING_TOOLS, leaving.to)
    tx.happened(run_id, leaving.at)
    if leaving.continuation is not None:
        begin_turn(tx, leaving.request_id, leaving.continuation)
        return []
    fate = Settlement(leaving.to, leaving.at, leaving.attempt_id, leaving.code, leaving.message)
    return settle_dependents(tx, run_id, leaving.request_id, fate)


def add_tool_call(tx: Transaction, call: ToolCall) -> None:
    tx.execute(SQL["add_tool_call"], {**asdict(call), "failed": int(call.failed)})


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────────────────


def join(tx: Transaction, request_id: int, original: Duplicate, fingerprint: bytes, at: float) -> Dependent | None:
    [(state, attempt_id, code, message)] = tx.execute(SQL["fate_of"], {"request_id": original.request_id}).fetchall()
    to = State(state) if State(state) in SETTLED else State.BLOCKED
    moved = tx.execute(
        SQL["join_request"],
        {
            "request_id": request_id,
            "to": to.value,
            "same_as": original.request_id if original.here else None,
            "fingerprint": fingerprint,
            "answered_by": attempt_id if to is State.SUCCEEDED else None,
            "code": code if to in SETTLED else None,
            "message": message if to in SETTLED else None,
            "settled_at": at if to in SETTLED else None,
        },
    ).fetchall()
    if not moved:
        return None
    run_id, stage, key = moved[0]
    tx.moved(run_id, stage, State.PENDING, to)
    tx.totals(run_id)["reused"] += to is State.SUCCEEDED
    return Dependent(key, to, code if to in SETTLED else None)


# ── chains ────────────────────────────────────────────────────────────────────────────────────────────────────


def link_chains(tx: Transaction, run_id: int, at: float) -> int:
    tx.execute(SQL["link_turns"], {"run_id": run_id})
    heads = Counter(stage for (stage,) in tx.execute(SQL["unblock_heads"], {"run_id": run_id, "at": at}).fetchall())
    for stage, requests in heads.items():
        tx.moved(run_id, stage, State.BLOCKED, State.PENDING, requests)
    return heads.total()


def keep_conversation(tx: Transaction, run_id: int, chain: str, conversation_id: str) -> None:
    tx.execute(SQL["keep_conversation"], {"run_id": run_id, "chain": chain, "conversation_id": conversation_id})
