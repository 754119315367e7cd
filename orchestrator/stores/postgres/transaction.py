"""A transaction on PostgreSQL: statements that no one waits for are run for many rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.stores.postgres.connection import PostgresConnection
from orchestrator.stores.sql.connection import Cursor, Parameters
from orchestrator.stores.sql.transaction import TOTALS, Known, Transaction

__all__ = ["PostgresTransaction"]

# Locks of a transaction, beside those of the session.
_PURPOSES = {"claims": 1, "request ids": 2}
_OF_TRANSACTIONS = 0x6F72_6374
_SUMMED = ", ".join(f"{name} = {name} + ${place}" for place, name in enumerate(TOTALS, start=3))
# Sums may be lowered, so a row is added only if it is missing.
_ADD_MOVES = """WITH c AS (
  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS c (run_id, stage, state, change)
), moved AS (
  UPDATE tally SET requests = requests + c.change FROM c
  WHERE tally.run_id = c.run_id AND tally.stage = c.stage AND tally.state = c.state
  RETURNING tally.run_id, tally.stage, tally.state
)
INSERT INTO tally (run_id, stage, state, requests)
SELECT * FROM c WHERE (run_id, stage, state) NOT IN (SELECT run_id, stage, state FROM moved)"""
_ADD_SPENDING = """WITH c AS (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS c (day, run_id, change)
), moved AS (
  UPDATE spending SET pusd = pusd + c.change FROM c WHERE spending.day = c.day AND spending.run_id = c.run_id
  RETURNING spending.day, spending.run_id
)
INSERT INTO spending (day, run_id, pusd)
SELECT * FROM c WHERE (day, run_id) NOT IN (SELECT day, run_id FROM moved)"""
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
        with self._postgres.raw.pipeline():
            self._write_held_back()
            changed = self._postgres.execute_for_all(statement, rows, returning="\nRETURNING id")
        return {row_id for (row_id,) in changed.fetchall()}

    def write_sums(self) -> None:
        """As the shared one, with statements that no result is read of: all of them are sent in one trip."""
        self._write_held_back()
        execute = self._postgres.raw.execute
        moves = sorted(
            (run, stage, state.value, change) for (run, stage, state), change in self._moves.items() if change
        )
        if moves:
            execute(_ADD_MOVES, [list(column) for column in zip(*moves, strict=True)], prepare=True)
        # In one order in all processes, so that none waits for another one that waits for it.
        for run_id, totals in sorted(self._totals.items()):
            sums = (totals[name] for name in TOTALS)
            execute(_ADD_TOTALS, [run_id, float(totals["latest_at"]), *sums], prepare=True)
        spent = sorted((day, run_id, change) for (day, run_id), change in self._spent.items() if change)
        if spent:
            execute(_ADD_SPENDING, [list(column) for column in zip(*spent, strict=True)], prepare=True)

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
