"""What an operator asks of a whole run, done in ranges of request ids.

A million requests in one transaction would delay every other write for many seconds. A range that is done twice
changes nothing the second time, so after a crash in between the operator only repeats the command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Charge
from orchestrator.core.states import OPEN, SETTLED, Event, State, move, moves
from orchestrator.stores.sql.attempt_ids import attempt_id_of
from orchestrator.stores.sql.dependents import Settlement, settle_dependents
from orchestrator.stores.sql.transaction import SQL, Transaction
from orchestrator.stores.sql.write_operations import add_charge, add_possible_duplicate
from orchestrator.stores.writes import Requeue

__all__ = ["IdRange", "block_again", "cancel_range", "flag_cancel", "id_ranges", "request_bounds", "requeue_range"]

_RANGE = 20_000
_UNSENT = frozenset(State) - OPEN - SETTLED


@fast_dataclass(kw_only=False)
class IdRange:
    """Request ids from the first to the last, both included; other runs may have requests between them."""

    first_id: int
    last_id: int

    def of(self, run_id: int) -> dict[str, Any]:
        """The parameters that choose the requests of a run in this range."""
        return {"run_id": run_id, "first_id": self.first_id, "last_id": self.last_id}


def id_ranges(bounds: IdRange | None) -> Iterator[IdRange]:
    """The ids of a run, in ranges that one transaction can do."""
    if bounds is not None:
        for first_id in range(bounds.first_id, bounds.last_id + 1, _RANGE):
            yield IdRange(first_id, min(first_id + _RANGE - 1, bounds.last_id))


def request_bounds(tx: Transaction, run_id: int) -> IdRange | None:
    """The range of a run's request ids; None if it has none."""
    return _bounds(tx.execute(SQL["request_bounds"], {"run_id": run_id}).fetchall())


def flag_cancel(tx: Transaction, run_id: int) -> IdRange | None:
    """Ask the process that works on the run to cancel it; returns the range of the run's request ids."""
    tx.execute(SQL["end_waits"], {"run_id": run_id})
    return _bounds(tx.execute(SQL["flag_cancel"], {"run_id": run_id}).fetchall())


def cancel_range(tx: Transaction, run_id: int, ids: IdRange, at: float) -> None:
    """Cancel what is not sent yet."""
    _move_range(tx, "cancel_range", Event.CANCEL, _UNSENT, {**ids.of(run_id), "at": at})


def requeue_range(tx: Transaction, requeue: Requeue, ids: IdRange) -> int:
    """Put settled requests back into the queue and resolve those in doubt; returns how many were moved."""
    chosen = {**ids.of(requeue.run_id), "code": requeue.code, "only_stage": requeue.stage, "flag": requeue.flag}
    moved = 0
    if requeue.states:
        lost = tx.execute(SQL["restart_turns"], {**chosen, "states": _json(requeue.states)}).fetchall()
        tx.execute_many(SQL["drop_continuation"], [{"id": request_id} for (request_id,) in lost])
        moved += _move_range(tx, "requeue_range", Event.REQUEUE, frozenset(requeue.states), chosen)
    if requeue.resolution is not None:
        source = State.IN_DOUBT
        for doubted in tx.execute(SQL["doubted_in_range"], {**chosen, "from_state": source.value}).fetchall():
            if requeue.stage in (None, doubted[1]):
                _resolve(tx, requeue, requeue.resolution, doubted)
                moved += 1
    if moved:
        tx.execute(SQL["reopen_run"], {"run_id": requeue.run_id})
    return moved


def _move_range(
    tx: Transaction, statement: str, event: Event, sources: frozenset[State], chosen: dict[str, Any]
) -> int:
    """Move the requests of a range that are in one of these states; returns how many."""
    moved = 0
    for stage, state in tx.execute(SQL["states_in_range"], chosen).fetchall():
        source = State(state)
        if source in sources and chosen.get("only_stage") in (None, stage):
            to = move(source, event)
            states = {"stage": stage, "from_state": source.value, "to_state": to.value}
            requests = tx.execute(SQL[statement], {**chosen, **states}).rowcount
            tx.moved(chosen["run_id"], stage, source, to, requests)
            moved += requests
    return moved


def block_again(tx: Transaction, run_id: int) -> int:
    """Let the turns that follow a requeued one wait for it again; returns how many."""
    blocked = dict(moves(Event.BLOCK))
    broken = tx.execute(SQL["broken_turns"], {"run_id": run_id, "states": _json(blocked)}).fetchall()
    for _, stage, state in broken:
        tx.moved(run_id, stage, State(state), blocked[State(state)])
    return tx.execute_many(
        SQL["block_again"],
        [{"id": each, "from_state": state, "to_state": blocked[State(state)].value} for each, _, state in broken],
    )


def _resolve(tx: Transaction, requeue: Requeue, event: Event, doubted: tuple[Any, ...]) -> None:
    """End a lost attempt: what it cost will never be known, only the most that it can have cost."""
    request_id, stage, number, code, message, worst_case_pusd = doubted
    attempt_id, run_id, at = attempt_id_of(request_id, number), requeue.run_id, requeue.at
    source, to = State.IN_DOUBT, move(State.IN_DOUBT, event)
    resent = event is Event.RETRY
    tx.execute(
        SQL["resolve_request"],
        {
            "request_id": request_id,
            "from_state": source.value,
            "to_state": to.value,
            "resent": int(resent),
            "settled_at": at if to in SETTLED else None,
        },
    )
    tx.execute(SQL["resolve_attempt"], {"attempt_id": attempt_id, "resent": int(resent), "at": at})
    tx.totals(run_id)["reserved_pusd"] -= worst_case_pusd or 0
    unknown = Charge(usage=None, cost_pusd=None, upper_bound_pusd=worst_case_pusd, price=None)
    add_charge(tx, run_id, attempt_id, unknown, at=at)
    tx.moved(run_id, stage, source, to)
    tx.happened(run_id, at)
    if resent:
        add_possible_duplicate(tx, run_id, worst_case_pusd)
    else:
        settle_dependents(tx, run_id, request_id, Settlement(event, at, attempt_id, code, message))


def _bounds(found: list[tuple[int | None, int | None]]) -> IdRange | None:
    return next((IdRange(first, last) for first, last in found if first is not None and last is not None), None)


def _json(states: Iterable[State]) -> str:
    return json.dumps([state.value for state in states])
