"""The verbs that every row goes through, for many rows at a time: one compare-and-set moves all requests of a group.

What each verb decides and what it writes beside the request is the shared code of ``stores.sql.write_operations``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from orchestrator.stores.postgres.transaction import PostgresTransaction
from orchestrator.stores.reads import Spending
from orchestrator.stores.sql import write_operations as one
from orchestrator.stores.sql.transaction import SQL
from orchestrator.stores.writes import Acceptance, Claim, Ending

__all__ = ["GROUPED", "GroupVerb"]

GroupVerb: TypeAlias = Callable[[PostgresTransaction, Sequence[Any]], list[Any]]


def _claims(tx: PostgresTransaction, claims: Sequence[Claim]) -> list[Any]:
    refusals: dict[int, Any] = {}
    for claim in claims:
        refusal = one.refusal_of(tx, claim)
        if refusal is not None:
            refusals[claim.request_id] = refusal
        else:
            # The next one must find less room.
            tx.totals(claim.run_id)["reserved_pusd"] += claim.worst_case_pusd or 0
    allowed = [claim for claim in claims if claim.request_id not in refusals]
    moved = tx.swap_all(SQL["claim_request"], [one.claimed_request(claim) for claim in allowed]) if allowed else set()
    results: dict[int, Any] = {}
    for claim in allowed:
        tx.totals(claim.run_id)["reserved_pusd"] -= claim.worst_case_pusd or 0
        results[claim.request_id] = one.add_attempt(tx, claim) if claim.request_id in moved else None
    for request_id, refusal in refusals.items():
        results[request_id] = _unless_moved(tx, request_id, refusal)
    return [results[claim.request_id] for claim in claims]


def _unless_moved(tx: PostgresTransaction, request_id: int, refusal: Any) -> Any:
    """A refusal because another request asks the same; None if the request is not pending."""
    if isinstance(refusal, Spending):
        return refusal
    return refusal if tx.execute(SQL["is_in_state"], (request_id, one.CLAIM.source.value)).fetchone() else None


def _acceptances(tx: PostgresTransaction, acceptances: Sequence[Acceptance]) -> list[Any]:
    moved = tx.swap_all(SQL["accept_request"], [one.accepted_request(each) for each in acceptances])
    kept = [each for each in acceptances if each.request_id in moved]
    taken = tx.swap_all(SQL["accept_attempt"], [one.accepted_attempt(each) for each in kept]) if kept else set()
    return [
        each.request_id in moved and one.note_acceptance(tx, each, held=each.attempt_id not in taken)
        for each in acceptances
    ]


def _endings(tx: PostgresTransaction, endings: Sequence[Ending]) -> list[Any]:
    moved = tx.swap_all(SQL["end_request"], [one.ended_request(each) for each in endings])
    return [one.note_ending(tx, each) if each.request_id in moved else None for each in endings]


GROUPED: Mapping[Any, GroupVerb] = {one.claim: _claims, one.accept: _acceptances, one.end: _endings}
