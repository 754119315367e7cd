"""Takes a run out of the database, or lets it begin again, in ranges of request ids that one transaction can do."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

from orchestrator.stores.sqlite.bulk_updates import IdRange
from orchestrator.stores.sqlite.queries import queries
from orchestrator.stores.sqlite.transaction import SQL as WRITE_SQL
from orchestrator.stores.sqlite.transaction import Transaction
from orchestrator.stores.writes import NewRun

__all__ = ["begin_again", "clear_range", "has_accepted", "replace_run"]

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
    "clear_input_row",
    "unlink_requests",
    "clear_request",
)
_OF_RUN = (
    "clear_skipped_row",
    "clear_conversation",
    "clear_noted_change",
    "clear_tally",
    "clear_spending",
    "clear_total",
)


def has_accepted(run_id: int, connection: sqlite3.Connection) -> bool:
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


def replace_run(tx: Transaction, run_id: int, run: NewRun) -> None:
    """Give a run without requests another job."""
    for statement in _OF_RUN:
        tx.execute(_SQL[statement], {"run_id": run_id})
    tx.execute(WRITE_SQL["create_total"], {"run_id": run_id})
    tx.execute(_SQL["replace_run"], {**asdict(run), "run_id": run_id})
