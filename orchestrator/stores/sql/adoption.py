"""Requests that other runs ask too: found, waited for, and taken over; in the transaction of the caller.

A response that is taken over stays with the attempt that asked for it, which is charged for it when it ends. The
request that takes it over has an attempt of its own that shares the response; the other request waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.core.states import SETTLED, Event, State, move, settled_by
from orchestrator.stores.reads import Dependent, OpenAttempt, OtherRequest, Wait
from orchestrator.stores.sql.attempt_ids import attempt_id_of, request_id_of
from orchestrator.stores.sql.connection import Cursor
from orchestrator.stores.sql.dependents import Settlement, settle_dependents
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import SQL, Claimed, Transaction
from orchestrator.stores.writes import Adoption

__all__ = ["adopt", "end_wait", "others", "waits"]

_SQL = queries("other_runs.sql")


# ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────


def others(execute: Callable[..., Cursor], run_id: int, fingerprint: bytes, since: float) -> list[OtherRequest]:
    """The requests of other runs that ask the same and are in flight, up to the first that has a whole answer."""
    found: list[OtherRequest] = []
    for request_id, other_run_id, run, state, attempt_id, worst_case_pusd, in_batch in execute(
        _SQL["others"], (fingerprint, run_id, since)
    ):
        found.append(
            OtherRequest(
                request_id=request_id,
                run_id=other_run_id,
                run=run,
                state=State(state),
                attempt_id=attempt_id,
                worst_case_pusd=worst_case_pusd,
                in_batch=bool(in_batch),
            )
        )
        if found[-1].state is State.SUCCEEDED:
            break
    return found


def waits(execute: Callable[..., Cursor], run_id: int) -> list[Wait]:
    return [
        Wait(
            request_id=request_id,
            other_id=other_id,
            run_id=other_run_id,
            run=run,
            state=State(state),
            in_batch=bool(in_batch),
        )
        for request_id, other_id, other_run_id, run, state, in_batch in execute(_SQL["waits"], {"run_id": run_id})
    ]


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────────


@fast_dataclass(kw_only=False)
class _Leave:
    """How a request stops waiting."""

    to: State
    event: Event | None
    answered_by: int | None = None
    code: str | None = None
    message: str | None = None


def end_wait(tx: Transaction, request_id: int, at: float, is_over: bool) -> list[Dependent] | None:
    cursor = tx.execute(_SQL["waited_for"], (request_id,))
    found = cursor.fetchone()
    if found is None:
        return None
    wait = dict(zip((name for name, *_ in cursor.description), found, strict=True))
    leave = _leave(tx, wait, request_id, at, is_over)
    if leave is None:
        return None
    source, settled_at = State.BLOCKED, at if leave.to in SETTLED else None
    tx.execute(
        _SQL["leave_wait"],
        {
            "request_id": request_id,
            "from_state": source.value,
            "to_state": leave.to.value,
            "not_before": at if leave.to is State.PENDING else 0.0,
            "answered_by": leave.answered_by,
            "code": leave.code,
            "message": leave.message,
            "settled_at": settled_at,
        },
    )
    tx.execute(_SQL["end_wait"], (request_id,))
    run_id: int = wait["run_id"]
    tx.moved(run_id, wait["stage"], source, leave.to)
    moved = [Dependent(wait["key"], leave.to, leave.code)]
    if leave.event is None:
        return moved
    tx.totals(run_id)["reused"] += leave.answered_by is not None
    attempt_id = leave.answered_by or wait["own_id"]
    settlement = Settlement(leave.event, at, attempt_id, leave.code, leave.message)
    return moved + settle_dependents(tx, run_id, request_id, settlement)


def _leave(tx: Transaction, wait: dict[str, Any], request_id: int, at: float, is_over: bool) -> _Leave | None:
    """How the request stops waiting; None if the other one is not done."""
    outcome = settled_by(State(wait["state"]))
    if outcome is Event.SUCCEED and (wait["adopted"] or wait["is_whole"]):
        answer_id: int = wait["answer_id"]
        own = request_id_of(answer_id) == request_id
        return _Leave(move(State.BLOCKED, outcome), outcome, None if own else answer_id)
    if outcome is Event.FAIL and wait["adopted"]:
        return _Leave(move(State.BLOCKED, outcome), outcome, None, wait["code"], wait["message"])
    if outcome is None and not is_over:
        return None
    if outcome is None and wait["adopted"] and wait["is_open"] and _take_back(tx, wait, at):
        return _Leave(_again_submitted(), None)
    return _Leave(move(State.BLOCKED, Event.UNBLOCK), None)


def _again_submitted() -> State:
    state = State.BLOCKED
    for event in (Event.UNBLOCK, Event.CLAIM, Event.ACCEPT):
        state = move(state, event)
    return state


def _take_back(tx: Transaction, wait: dict[str, Any], at: float) -> bool:
    """Have the request that took the open response over give it back; False if it is past that."""
    source, to = State.SUBMITTED, move(State.SUBMITTED, Event.RETRY)
    if wait["state"] != source.value:
        return False
    _end_shared(tx, wait["other_run_id"], wait["answer_id"], at)
    other = (wait["other_id"], source.value, to.value)
    tx.execute(_SQL["hand_over"], other)
    tx.note_claim(wait["other_id"], None)
    tx.moved(wait["other_run_id"], wait["other_stage"], source, to)
    return True


def _end_shared(tx: Transaction, run_id: int, attempt_id: int, at: float) -> None:
    for (worst_case_pusd,) in tx.execute(_SQL["end_shared"], (attempt_id, at)).fetchall():
        tx.totals(run_id)["reserved_pusd"] -= worst_case_pusd or 0
        tx.happened(run_id, at)


# ── taking over ───────────────────────────────────────────────────────────────────────────────────────────────


def adopt(tx: Transaction, adoption: Adoption) -> OpenAttempt | None:
    state = adoption.from_state
    found = tx.execute(_SQL["adoptable"], (adoption.adopted_id, state.value)).fetchone()
    if found is None:
        return None
    run_id, stage, number, turn = found
    attempt_id = attempt_id_of(adoption.request_id, adoption.number)
    adopted_id = attempt_id_of(adoption.adopted_id, number)
    to = _adopted_state(state)
    taken = (adoption.request_id, adoption.number, turn, adoption.fingerprint, State.PENDING.value, to.value)
    if not tx.execute(_SQL["take_over"], taken).rowcount:
        return None
    is_over = state is State.AWAITING_TOOLS
    tx.execute(_SQL["adopt_response"], (attempt_id, adopted_id, adoption.at if is_over else None))
    if turn:
        tx.execute(_SQL["adopt_turn"], (adoption.request_id, adoption.adopted_id))
    if is_over:
        tx.execute(_SQL["adopt_body"], (attempt_id, adopted_id))
        tx.execute(_SQL["adopt_tool_calls"], (attempt_id, adopted_id))
    _hand_over(tx, adoption, run_id, stage, adopted_id)
    opened = _opened(tx, attempt_id)
    claimed = Claimed(adoption.run_id, adoption.stage, None, opened.response_id, shares=True, adopted=True)
    tx.note_claim(adoption.request_id, None if is_over else claimed)
    tx.moved(adoption.run_id, adoption.stage, State.PENDING, to)
    tx.happened(adoption.run_id, adoption.at)
    tx.totals(adoption.run_id)["attempts"] += 1
    return opened


def _adopted_state(state: State) -> State:
    """Where a pending request is once it has taken over a response of one in this state."""
    to = move(move(State.PENDING, Event.CLAIM), Event.ACCEPT)
    return to if state is to else move(to, Event.CALL)


def _hand_over(tx: Transaction, adoption: Adoption, run_id: int, stage: str, adopted_id: int) -> None:
    """The other request goes back to the queue, so to speak, and joins the one that took its response over."""
    state = adoption.from_state
    event = Event.RETRY if state is State.SUBMITTED else Event.CONTINUE
    to = move(move(state, event), Event.JOIN)
    tx.execute(_SQL["hand_over"], (adoption.adopted_id, state.value, to.value))
    _end_shared(tx, run_id, adopted_id, adoption.at)
    tx.execute(_SQL["wait_for_adopter"], (adoption.adopted_id, adoption.request_id))
    tx.execute(SQL["wait_for"], (adoption.adopted_id, run_id, adoption.request_id, 1))
    tx.note_claim(adoption.adopted_id, None)
    tx.moved(run_id, stage, state, to)


def _opened(tx: Transaction, attempt_id: int) -> OpenAttempt:
    (
        response_id, status, model, service_tier, window, sent_at, accepted_at, key, stage, state, number, attempts,
        epoch, turn, worst_case_pusd, lane, endpoint,
    ) = tx.execute(_SQL["adopted"], (attempt_id,)).fetchone()  # fmt: skip
    return OpenAttempt(
        attempt_id=attempt_id,
        request_id=request_id_of(attempt_id),
        key=key,
        stage=stage,
        state=State(state),
        number=number,
        attempts=attempts,
        epoch=epoch,
        turn=turn,
        repairs=0,
        response_id=response_id,
        status=status,
        model=model,
        service_tier=service_tier,
        window=window,
        sent_at=sent_at,
        accepted_at=accepted_at,
        worst_case_pusd=worst_case_pusd,
        adopted=True,
        lane=Lane(lane),
        endpoint=endpoint,
    )
