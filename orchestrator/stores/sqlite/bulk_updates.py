"""What an operator asks of a whole run, done in slices of request ids.

A million requests in one transaction would hold up every other write for many seconds; and a slice that is done
twice changes nothing, so a crash in between only leaves the rest to be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.core.model import Charge
from orchestrator.core.states import State
from orchestrator.stores.sqlite.attempt_ids import attempt_id_of
from orchestrator.stores.sqlite.dependents import Settlement, settle_dependents
from orchestrator.stores.sqlite.transaction import SQL, Transaction
from orchestrator.stores.sqlite.write_operations import add_charge, add_possible_duplicate
from orchestrator.stores.writes import Requeue

__all__ = [
    "Slice",
    "block_again",
    "cancel_slice",
    "flag_cancel",
    "request_bounds",
    "requeue_slice",
    "slices",
]

_SLICE = 20_000


@dataclass(frozen=True, slots=True)
class Slice:
    """Request ids from the first to the last, both included; other runs may have requests between them."""

    first_id: int
    last_id: int


def slices(bounds: Slice | None) -> Iterator[Slice]:
    """The ids of a run, a slice at a time."""
    if bounds is not None:
        for first_id in range(bounds.first_id, bounds.last_id + 1, _SLICE):
            yield Slice(first_id, min(first_id + _SLICE - 1, bounds.last_id))


def request_bounds(tx: Transaction, run_id: int) -> Slice | None:
    """Between which ids a run's requests lie; None where it has none."""
    return _bounds(tx.execute(SQL["request_bounds"], {"run_id": run_id}).fetchall())


def flag_cancel(tx: Transaction, run_id: int) -> Slice | None:
    """Ask whoever works on the run to cancel it; returns the run's ids."""
    return _bounds(tx.execute(SQL["flag_cancel"], {"run_id": run_id}).fetchall())


def cancel_slice(tx: Transaction, run_id: int, ids: Slice, at: float) -> None:
    """Cancel what is pending or blocked."""
    chosen = {"run_id": run_id, "first_id": ids.first_id, "last_id": ids.last_id, "at": at}
    for stage, state, requests in tx.execute(SQL["unsent_in_slice"], chosen).fetchall():
        tx.moved(run_id, stage, State(state), State.CANCELLED, requests)
    tx.execute(SQL["cancel_slice"], chosen)


def requeue_slice(tx: Transaction, wish: Requeue, ids: Slice) -> int:
    """Put settled requests back into the queue and resolve those in doubt; returns how many were moved."""
    chosen = {
        "run_id": wish.run_id,
        "first_id": ids.first_id,
        "last_id": ids.last_id,
        "code": wish.code,
        "failed": State.FAILED in wish.states,
        "cancelled": State.CANCELLED in wish.states,
    }
    moved = 0
    for stage, state, requests in tx.execute(SQL["settled_in_slice"], chosen).fetchall():
        tx.moved(wish.run_id, stage, State(state), State.PENDING, requests)
        moved += requests
    if moved:
        anew = tx.execute(SQL["begin_anew"], chosen).fetchall()
        tx.execute_many(SQL["drop_continuation"], [{"id": request_id} for (request_id,) in anew])
        tx.execute(SQL["requeue_slice"], chosen)
    if wish.resolve_in_doubt is not None:
        for doubted in tx.execute(SQL["doubted_in_slice"], chosen).fetchall():
            _resolve(tx, wish, doubted)
            moved += 1
    if moved:
        tx.execute(SQL["reopen_run"], {"run_id": wish.run_id})
    return moved


def block_again(tx: Transaction, run_id: int) -> int:
    """Let the turns that follow a requeued one wait for it once more; returns how many."""
    broken_off = tx.execute(SQL["broken_off"], {"run_id": run_id}).fetchall()
    for _, stage, state in broken_off:
        tx.moved(run_id, stage, State(state), State.BLOCKED)
    return tx.execute_many(SQL["block_again"], [{"id": request_id} for request_id, _, _ in broken_off])


def _resolve(tx: Transaction, wish: Requeue, doubted: tuple[Any, ...]) -> None:
    """End a lost attempt: nobody will ever know what it cost, only what it can have cost at most."""
    request_id, stage, number, code, message, worst_case_pusd = doubted
    attempt_id = attempt_id_of(request_id, number)
    resend = wish.resolve_in_doubt == "resend"
    to = State.PENDING if resend else State.FAILED
    tx.execute(SQL["resolve_request"], {"request_id": request_id, "to": to.value, "at": wish.at})
    tx.execute(SQL["resolve_attempt"], {"attempt_id": attempt_id, "to": to.value, "at": wish.at})
    tx.totals(wish.run_id)["reserved_pusd"] -= worst_case_pusd or 0
    unknown = Charge(usage=None, cost_pusd=None, upper_bound_pusd=worst_case_pusd, price=None)
    add_charge(tx, wish.run_id, attempt_id, unknown, at=wish.at)
    tx.moved(wish.run_id, stage, State.IN_DOUBT, to)
    tx.happened(wish.run_id, wish.at)
    if resend:
        add_possible_duplicate(tx, wish.run_id, worst_case_pusd)
    else:
        settle_dependents(tx, wish.run_id, request_id, Settlement(to, wish.at, attempt_id, code, message))


def _bounds(found: list[tuple[int | None, int | None]]) -> Slice | None:
    return next((Slice(first, last) for first, last in found if first is not None and last is not None), None)
