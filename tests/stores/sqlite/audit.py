"""Recounts a database, row by row, and compares the result with the sums that it keeps."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.core.states import State
from orchestrator.stores.sql.transaction import TOTALS

_RECOUNT = """
SELECT
  count(attempt.id) AS attempts,
  coalesce(sum(attempt.possible_duplicate), 0) AS possible_duplicates,
  coalesce(sum(iif(attempt.possible_duplicate AND charge.cost_pusd IS NULL, charge.upper_bound_pusd, 0)), 0)
    AS possible_duplicates_upper_bound_pusd,
  coalesce(sum(attempt.possible_duplicate AND charge.attempt_id IS NOT NULL
    AND charge.cost_pusd IS NULL AND charge.upper_bound_pusd IS NULL), 0) AS possible_duplicates_unbounded,
  coalesce(sum(iif(charge.estimated, charge.cost_pusd, 0)), 0) AS cost_estimated_pusd,
  count(charge.attempt_id) - count(coalesce(charge.cost_pusd, charge.upper_bound_pusd)) AS cost_unbounded,
  coalesce(sum(charge.cost_pusd), 0) AS cost_pusd,
  count(charge.attempt_id) - count(charge.cost_pusd) AS cost_unknown,
  coalesce(sum(iif(charge.cost_pusd IS NULL, charge.upper_bound_pusd, 0)), 0) AS cost_unknown_upper_bound_pusd,
  coalesce(sum(charge.input_tokens), 0) AS input_tokens,
  coalesce(sum(charge.cached_tokens), 0) AS cached_tokens,
  coalesce(sum(charge.cache_write_tokens), 0) AS cache_write_tokens,
  coalesce(sum(charge.output_tokens), 0) AS output_tokens,
  coalesce(sum(charge.reasoning_tokens), 0) AS reasoning_tokens,
  coalesce(sum(charge.total_tokens), 0) AS total_tokens,
  coalesce(sum(charge.cache_write_12h_tokens), 0) AS cache_write_12h_tokens,
  coalesce(sum(iif(attempt.ended_at IS NULL, attempt.worst_case_pusd, 0)), 0) AS reserved_pusd,
  coalesce(max(max(attempt.sent_at, coalesce(attempt.accepted_at, 0), coalesce(attempt.ended_at, 0))), 0)
    AS latest_at,
  (SELECT count(*) FROM request WHERE request.run_id = :run_id AND request.answered_by IS NOT NULL) AS reused,
  (SELECT count(*) FROM skipped_row WHERE skipped_row.run_id = :run_id) AS skipped_rows
FROM request
JOIN attempt ON attempt.request_id = request.id
LEFT JOIN charge ON charge.attempt_id = attempt.id
WHERE request.run_id = :run_id
"""

# Polls, rate-limited replies and time belong to no request: nothing is left to recount them by.
_RECOUNTED = sorted({*TOTALS} - {"polls", "rate_limited", "elapsed_s"})

# The attempt of another request that has taken the response of this one over, and is open.
_ADOPTER = """
SELECT 1 FROM attempt AS adopter
WHERE adopter.adopted = 1 AND adopter.ended_at IS NULL AND adopter.response_id = attempt.response_id
  AND adopter.id <> attempt.id
"""

# What must never be found, whatever happened.
_NEVER = {
    "a request without its row": "SELECT id FROM request WHERE id NOT IN (SELECT request_id FROM input_row)",
    "a request twice": "SELECT key FROM request GROUP BY run_id, stage, key HAVING count(*) > 1",
    "a response charged twice": """
        SELECT response_id FROM attempt JOIN charge ON charge.attempt_id = attempt.id
        WHERE response_id IS NOT NULL GROUP BY response_id HAVING count(*) > 1""",
    "a known cost without a response": """
        SELECT attempt.id FROM attempt JOIN charge ON charge.attempt_id = attempt.id
        WHERE response_id IS NULL AND cost_pusd IS NOT NULL""",
    "an open attempt of a request that is not open, or the reverse": """
        SELECT request.id FROM request LEFT JOIN attempt ON attempt.id = request.id * 1000000 + request.number
        WHERE (
          request.settled_at IS NULL AND request.state <> 'pending' AND request.state <> 'blocked'
          AND request.state <> 'acting'
        )
          <> (attempt.id IS NOT NULL AND attempt.ended_at IS NULL AND NOT EXISTS ({adopter}))""",
    "a blocked request that nothing will unblock": """
        SELECT request.id FROM request
        LEFT JOIN request AS other ON other.id = coalesce(request.same_as, request.follows)
        WHERE request.state = 'blocked' AND request.level IS NULL
          AND (other.id IS NULL OR other.settled_at IS NOT NULL)
          AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.request_id = request.id)""",
    "a group that counts its open members wrongly": """
        SELECT request.id FROM request WHERE level IS NOT NULL AND state = 'blocked' AND awaits <> (
          SELECT count(*) FROM member JOIN request AS each ON each.id = member.request_id
          WHERE member.group_id = request.id AND each.settled_at IS NULL
        )""",
    "a group that was asked before its members were settled": """
        SELECT request.id FROM request WHERE level IS NOT NULL AND awaits > 0 AND number > 0""",
    "a request that waits for itself": "SELECT request_id FROM waiting WHERE request_id = other_id",
    "an adopted response that nobody asked for": """
        SELECT attempt.id FROM attempt
        WHERE adopted = 1 AND NOT EXISTS (
          SELECT 1 FROM attempt AS holder
          WHERE holder.response_id = attempt.response_id AND holder.shares_response = 0
        )""",
    "an answer of no attempt": """
        SELECT request.id FROM request LEFT JOIN attempt ON attempt.id = request.answered_by
        WHERE request.answered_by IS NOT NULL AND attempt.id IS NULL""",
    "an earlier attempt that is open": """
        SELECT attempt.id FROM attempt JOIN request ON request.id = attempt.request_id
        WHERE attempt.ended_at IS NULL AND attempt.number < request.number AND NOT EXISTS ({adopter})""",
    "a gap in the numbers of attempts": """
        SELECT request.id FROM request LEFT JOIN attempt ON attempt.request_id = request.id
        GROUP BY request.id HAVING count(attempt.id) <> max(request.number)""",
    "a submitted request without a response id or a batch": """
        SELECT request.id FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
        WHERE request.state = 'submitted' AND attempt.response_id IS NULL AND attempt.provider_batch IS NULL""",
    "a success without a result": """
        SELECT request.id FROM request
        LEFT JOIN result
          ON result.attempt_id = coalesce(request.answered_by, request.id * 1000000 + request.number)
        WHERE request.state = 'succeeded' AND result.attempt_id IS NULL
          AND NOT EXISTS (SELECT 1 FROM retention WHERE outputs_dropped > 0)""",
    "a request outside its run's bounds": """
        SELECT request.id FROM request JOIN run ON run.id = request.run_id
        WHERE request.id NOT BETWEEN run.first_request_id AND run.last_request_id""",
    "a day whose spending is not the sum of its charges": """
        SELECT day, run_id, sum(pusd) FROM (
          SELECT day, run_id, pusd FROM spending
          UNION ALL
          SELECT
            CAST(charge.charged_at / 86400 AS INTEGER), request.run_id,
            -coalesce(charge.cost_pusd, charge.upper_bound_pusd, 0)
          FROM charge
          JOIN attempt ON attempt.id = charge.attempt_id
          JOIN request ON request.id = attempt.request_id
        ) GROUP BY day, run_id HAVING sum(pusd) <> 0""",
    "damage": "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    "a broken reference": "SELECT * FROM pragma_foreign_key_check",
}


@dataclass(frozen=True)
class Sums:
    """What a recount of all runs found."""

    states: Counter[State]
    cost_pusd: int


def audit(database: Path) -> Sums:
    """Assert that the database is consistent and that its sums are right; returns them."""
    states: Counter[State] = Counter()
    cost_pusd = 0
    with closing(sqlite3.connect(database)) as connection:
        for what, query in _NEVER.items():
            assert connection.execute(query.replace("{adopter}", _ADOPTER)).fetchall() == [], what
        connection.row_factory = sqlite3.Row
        for (run_id,) in connection.execute("SELECT id FROM run").fetchall():
            parameters = {"run_id": run_id}
            kept = connection.execute(
                "SELECT stage, state, requests FROM tally WHERE run_id = :run_id AND requests > 0", parameters
            )
            counted = connection.execute(
                "SELECT stage, state, count(*) FROM request WHERE run_id = :run_id GROUP BY stage, state", parameters
            )
            found = {(stage, state): requests for stage, state, requests in counted}
            assert {(stage, state): requests for stage, state, requests in kept} == found
            for (_, state), requests in found.items():
                states[State(state)] += requests
            [totals] = connection.execute("SELECT * FROM run_total WHERE run_id = :run_id", parameters)
            [recount] = connection.execute(_RECOUNT, parameters)
            assert {name: totals[name] for name in _RECOUNTED} == {name: recount[name] for name in _RECOUNTED}
            assert totals["latest_at"] >= recount["latest_at"]
            cost_pusd += totals["cost_pusd"]
    return Sums(states, cost_pusd)


def ask(database: Path, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a person at the sqlite3 shell would see."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query, parameters).fetchall()
