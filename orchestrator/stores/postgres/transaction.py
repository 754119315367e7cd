"""A transaction on PostgreSQL: statements that no one waits for are run for many rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.stores.postgres.connection import PostgresConnection
from orchestrator.stores.sql.connection import Cursor, Parameters
from orchestrator.stores.sql.transaction import SQL, TOTALS, Known, Transaction

__all__ = ["PostgresTransaction"]

# Locks of a transaction, beside those of the session.
_PURPOSES = {"claims": 1, "request ids": 2}
_OF_TRANSACTIONS = 0x6F72_6374
_SUMMED = ", ".join(f"{name} = {name} + ${place}" for place, name in enumerate(TOTALS, start=3))
_ADD_TOTALS = f"UPDATE run_total SET latest_at = greatest(latest_at, $2), {_SUMMED} WHERE run_id = $1"  # noqa: S608  # our own names


class PostgresTransaction(Transaction):
    """See ``stores.sql.transaction``; other writers may write at the same time."""

    __slots__ = ("_held_back", "_postgres", "_purposes")

    def __init__(self, connection: PostgresConnection, known: Known) -> None:
        super().__init__(connection, known)
        self._postgres = connection
        self._held_back: dict[str, list[Parameters]] = {}
        self._purposes: set[str] = set()
        self.execute = self._execute
        self.later = self._hold_back

    def alone(self, purpose: str) -> None:
        if purpose not in self._purposes:
            self._purposes.add(purpose)
            self._execute(f"SELECT pg_advisory_xact_lock({_OF_TRANSACTIONS}, {_PURPOSES[purpose]})")

    def swap_all(self, statement: str, rows: Sequence[Parameters]) -> set[int]:
        """Run a compare-and-set for many rows; returns the ids of those that it changed."""
        self._write_held_back()
        changed = self._postgres.execute_for_all(statement, rows, returning="\nRETURNING id").fetchall()
        return {row_id for (row_id,) in changed}

    def write_sums(self) -> None:
        self._write_held_back()
        self._add_moves()
        # In one order in all processes, so that none waits for another one that waits for it.
        for run_id, totals in sorted(self._totals.items()):
            self._postgres.raw.execute(
                _ADD_TOTALS, [run_id, float(totals["latest_at"]), *(totals[name] for name in TOTALS)], prepare=True
            )
        for (day, run_id), change in sorted(self._spent.items()):
            if change:
                spent = {"day": day, "run_id": run_id, "change": change}
                if not self.execute(SQL["move_spending"], spent).rowcount:
                    self.execute(SQL["add_spending"], spent)

    def _add_moves(self) -> None:
        moves = sorted((run_id, stage, state.value, change) for (run_id, stage, state), change in self._moves.items())
        for run_id, stage, state, change in moves:
            if change:
                row = {"run_id": run_id, "stage": stage, "state": state, "change": change}
                if not self.execute(SQL["move_tally"], row).rowcount:
                    self.execute(SQL["add_tally"], row)

    def _execute(self, statement: str, parameters: Parameters = (), /) -> Cursor:
        self._write_held_back()
        return self._postgres.execute(statement, parameters)

    def execute_many(self, statement: str, rows: Any) -> int:
        self._write_held_back()
        listed = list(rows)
        return self._postgres.execute_for_all(statement, listed).rowcount if listed else 0

    def _hold_back(self, statement: str, row: Parameters) -> None:
        self._held_back.setdefault(statement, []).append(row)

    def _write_held_back(self) -> None:
        while self._held_back:
            statement = next(iter(self._held_back))
            rows = self._held_back.pop(statement)
            self._postgres.execute_for_all(statement, rows)
