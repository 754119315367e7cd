"""Takes a run out of the database, or lets it begin again, in ranges of request ids that one transaction can do."""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestrator.stores.reads import Needed
from orchestrator.stores.sql.bulk_updates import IdRange
from orchestrator.stores.sql.connection import SqlConnection
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import SQL as WRITE_SQL
from orchestrator.stores.sql.transaction import Transaction
from orchestrator.stores.sql.write_operations import run_columns
from orchestrator.stores.writes import NewRun

__all__ = [
    "begin_again",
    "clear_range",
    "disown",
    "has_accepted",
    "needed_by",
    "remove_range",
    "remove_run",
    "replace_run",
]

_SQL = queries("removal.sql")

# In an order in which no row refers to one that is gone.
_OF_REQUESTS = (
    "clear_progress_event",
    "clear_tool_call",
    "clear_result",
    "clear_charge",
    "clear_attempt",
    "clear_waiting",
    "clear_continuation",
    "clear_chain_turn",
    "clear_member",
    "clear_flag",
    "clear_input_row",
    "unlink_requests",
    "clear_request",
)
_OF_RUN = (
    "clear_skipped_row",
    "clear_stage",
    "clear_batch",
    "clear_conversation",
    "clear_noted_change",
    "clear_pulse",
    "clear_tally",
    "clear_spending",
    "clear_total",
)
_OF_REMOVED = ("clear_retention", "clear_deleted_copy", "clear_upload_use", "clear_night", "clear_notice")


def has_accepted(run_id: int, connection: SqlConnection) -> bool:
    """Whether a response of a run is known or may exist, or a request of it has an answer."""
    return bool(connection.execute(_SQL["has_accepted"], {"run_id": run_id}).fetchone()[0])


def begin_again(tx: Transaction, run_id: int) -> bool:
    """Let the input of a run be read again from its beginning; False if something of the run was accepted."""
    if tx.execute(_SQL["has_accepted"], {"run_id": run_id}).fetchone()[0]:
        return False
    tx.execute(_SQL["reopen_plan"], {"run_id": run_id})
    return True


def clear_range(tx: Transaction, run_id: int, ids: IdRange) -> None:
    """Remove the requests of a run in a range, with all that belongs to them."""
    for statement in _OF_REQUESTS:
        tx.execute(_SQL[statement], ids.of(run_id))


def needed_by(run_id: int, connection: SqlConnection) -> Needed:
    """What would lose something if a run were removed."""
    datasets, runs = (
        tuple(name for (name,) in connection.execute(_SQL[query], {"run_id": run_id}).fetchall())
        for query in ("datasets_with_answers", "runs_that_wait")
    )
    return Needed(datasets=datasets, waiting_runs=runs)


def disown(tx: Transaction, run_id: int, ids: IdRange) -> None:
    """Let the responses that other runs took over be theirs alone."""
    tx.execute(_SQL["disown"], ids.of(run_id))


def remove_range(tx: Transaction, run_id: int, ids: IdRange) -> None:
    """Remove the requests of a run in a range; those of other runs keep the answers that they share."""
    tx.execute(_SQL["overwrite"])
    _hand_over(tx, run_id, ids)
    clear_range(tx, run_id, ids)
    tx.execute(_SQL["overwrite_no_more"])


def _hand_over(tx: Transaction, run_id: int, ids: IdRange) -> None:
    """Give each request of another run a copy of the answer that it has from this one."""
    shared = tx.execute(_SQL["shared_answers"], ids.of(run_id)).fetchall()
    for other_run_id, request_id, attempt_id, answered_by, latest_at in shared:
        chosen = {"attempt_id": attempt_id, "answered_by": answered_by}
        tx.execute(_SQL["copy_attempt"], chosen)
        tx.execute(_SQL["copy_result"], chosen)
        tx.execute(_SQL["own_answer"], {"attempt_id": attempt_id, "request_id": request_id})
        tx.totals(other_run_id)["attempts"] += 1
        tx.happened(other_run_id, latest_at)


def remove_run(tx: Transaction, run_id: int, names: Sequence[str]) -> None:
    """Remove a run that has no requests left, and the values that are kept under ``names``."""
    tx.execute(_SQL["keep_spending"], {"run_id": run_id})
    for statement in (*_OF_RUN, *_OF_REMOVED, "remove_run"):
        tx.execute(_SQL[statement], {"run_id": run_id})
    tx.execute(_SQL["clear_memory"], {"names": json.dumps(names)})


def replace_run(tx: Transaction, run_id: int, run: NewRun) -> None:
    """Give a run without requests another job."""
    for statement in _OF_RUN:
        tx.execute(_SQL[statement], {"run_id": run_id})
    tx.execute(WRITE_SQL["create_total"], {"run_id": run_id})
    tx.execute(_SQL["replace_run"], {**run_columns(run), "run_id": run_id})
