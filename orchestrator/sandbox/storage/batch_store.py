"""Batches: files of requests that are answered within a day in a file of answers and a file of errors.

No task runs a batch. Its answers are made when it is created, its status follows from the time, and the first call
that finds it closed writes its files.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.storage.batch_files import ENDPOINT, BatchLineError, ResultFile, file_line
from orchestrator.sandbox.storage.file_store import NewFile, add_file
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["BatchLine", "BatchStore", "NewBatch"]

Json: TypeAlias = Any

WINDOW_S = 86_400
# How long a cancelled batch is shown as cancelling.
_CANCELLING_S = 1
# Faults of lines strike each of so many.
_STRUCK_EVERY = 10
_ENDED = ("completed", "failed", "expired", "cancelled")
# What the error file says about an unanswered line, by the final status of the batch.
_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


@fast_dataclass
class BatchLine:
    """One request of a batch with its reply; ``ends_at`` is when the reply is ready (infinity: never)."""

    custom_id: str
    ends_at: float
    status_code: int
    body: bytes
    response_id: str | None = None


@fast_dataclass
class NewBatch:
    """A batch to store; ``fault`` strikes it, and ``late_s`` and ``cancelling_s`` are for the faults that delay.

    ``enqueued_tokens`` of the ``model`` count against the limit of what may be enqueued, until it has ended.
    """

    lines: Sequence[BatchLine]
    errors: Sequence[BatchLineError]
    input_file_id: str
    metadata: Mapping[str, str]
    file_lifetime_s: int | None
    starts_at: float
    model: str | None = None
    enqueued_tokens: int = 0
    fault: str | None = None
    late_s: float = 0
    cancelling_s: float = _CANCELLING_S


class BatchStore:
    """The batches in the database; every call takes the current time."""

    def __init__(self, state: SandboxDatabase) -> None:
        self._state = state

    def create(self, batch: NewBatch, now: float) -> str:
        """Stores a batch; returns its id."""
        batch_id = f"batch_{token_hex(16)}"
        lines, expires_at = list(batch.lines), now + WINDOW_S
        ends_at = max((line.ends_at for line in lines), default=batch.starts_at)
        if batch.fault == "batch_expires" and lines:
            lines, expires_at = _half_answered(lines)
            ends_at = math.inf
        if batch.fault == "batch_never_ends":
            ends_at = expires_at = math.inf
        shown_errors = [
            {"code": each.code, "line": each.line, "message": each.message, "param": each.param}
            for each in batch.errors
        ]
        self._state.write(
            "INSERT INTO batch (id, created_at, starts_at, ends_at, input_file_id, metadata, file_lifetime_s, "
            "errors, fault, expires_at, cancelling_s, listed_at, late_s, model, enqueued_tokens) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                batch_id,
                now,
                batch.starts_at,
                max(batch.starts_at, ends_at),
                batch.input_file_id,
                orjson.dumps(batch.metadata),
                batch.file_lifetime_s,
                orjson.dumps(shown_errors),
                batch.fault,
                expires_at,
                batch.cancelling_s if batch.fault == "batch_slow_cancel" else _CANCELLING_S,
                now + batch.late_s if batch.fault == "batch_listed_late" else now,
                batch.late_s,
                batch.model,
                batch.enqueued_tokens,
            ),
        )
        for number, line in enumerate(lines):
            self._state.write(
                "INSERT INTO batch_line (batch_id, number, custom_id, ends_at, response_id, status_code, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (batch_id, number, line.custom_id, line.ends_at, line.response_id, line.status_code, line.body),
            )
        return batch_id

    def enqueued_tokens(self, model: str | None, now: float) -> int:
        """The input tokens of a model's batches that have not ended."""
        rows = self._state.rows("SELECT * FROM batch WHERE model IS ? AND delivered = 0", (model,))
        return sum(row["enqueued_tokens"] for row in rows if _status(row, now) not in _ENDED)

    def show(self, batch_id: str, now: float) -> dict[str, Json]:
        """The batch as the API shows it; writes its files if it has closed. Raises ``ErrorReply`` (404)."""
        row = self._row(batch_id)
        if _status(row, now) in _ENDED and not row["delivered"]:
            self._close(row, now)
            row = self._row(batch_id)
        return self._shown(row, now)

    def list_all(self, now: float) -> list[dict[str, Json]]:
        """All batches that are listed by now, oldest first."""
        rows = self._state.rows("SELECT id FROM batch WHERE listed_at <= ? ORDER BY position", (now,))
        return [self.show(row["id"], now) for row in rows]

    def cancel(self, batch_id: str, now: float) -> bool:
        """Stops what has not been answered; false if the batch has already ended."""
        row = self._row(batch_id)
        if _status(row, now) in _ENDED:
            return False
        if row["cancel_asked_at"] is None:
            self._state.write("UPDATE batch SET cancel_asked_at = ? WHERE id = ?", (now, batch_id))
            self._state.write(
                "UPDATE response SET cancel_asked_at = ? WHERE ends_at > ? AND id IN "
                "(SELECT response_id FROM batch_line WHERE batch_id = ?)",
                (now, now, batch_id),
            )
        return True

    def _row(self, batch_id: str) -> sqlite3.Row:
        row = self._state.row("SELECT * FROM batch WHERE id = ?", (batch_id,))
        if row is None:
            raise _no_such_batch(batch_id)
        return row

    def _lines(self, row: sqlite3.Row) -> Iterator[sqlite3.Row]:
        yield from self._state.rows("SELECT * FROM batch_line WHERE batch_id = ? ORDER BY number", (row["id"],))

    def _close(self, row: sqlite3.Row, now: float) -> None:
        """Writes the files of a batch that has ended, which delivers its answers."""
        closed_at, status, fault = _closes_at(row), _status(row, now), row["fault"]
        files = {"output": ResultFile(), "error": ResultFile()}
        for line in self._lines(row):
            answered = line["ends_at"] <= closed_at
            text = file_line(line, error=None if answered else _UNANSWERED[status])
            struck = fault if line["number"] % _STRUCK_EVERY == 0 else None
            files["output" if answered and line["status_code"] == 200 else "error"].add(text, struck)
            if struck == "batch_repeated_lines":
                files["error"].add(file_line(line, error=_UNANSWERED["expired"]), None)
        written = [self._write_file(row, kind, file, now) for kind, file in files.items()]
        self._state.write(
            "UPDATE batch SET delivered = 1, output_file_id = ?, error_file_id = ? WHERE id = ?",
            (*written, row["id"]),
        )
        self._state.write(
            "UPDATE response SET cancel_asked_at = starts_at WHERE cancel_asked_at IS NULL AND id IN "
            "(SELECT response_id FROM batch_line WHERE batch_id = ? AND ends_at > ?)",
            (row["id"], closed_at),
        )
        lost = fault == "batch_missing_lines"
        self._state.write(
            "UPDATE response SET delivered = end_status WHERE id IN "
            "(SELECT response_id FROM batch_line WHERE batch_id = ? AND ends_at <= ? AND NOT (? AND number % ? = 0))",
            (row["id"], closed_at, lost, _STRUCK_EVERY),
        )

    def _write_file(self, row: sqlite3.Row, kind: str, file: ResultFile, now: float) -> str | None:
        if not file.first and not file.late:
            return None
        result = NewFile(
            filename=f"{row['id']}_{kind}.jsonl",
            content=b"".join(file.first),
            purpose="batch_output",
            expires_at=now + row["file_lifetime_s"] if row["file_lifetime_s"] else None,
            complete_at=_closes_at(row) + row["late_s"],
            late_content=b"".join(file.late),
        )
        return add_file(self._state, result, now)

    def _shown(self, row: sqlite3.Row, now: float) -> dict[str, Json]:
        status, closed_at, asked = _status(row, now), _closes_at(row), row["cancel_asked_at"]
        errors, no_file = orjson.loads(row["errors"]), "" if row["fault"] == "batch_empty_ids" else None
        times = {
            "in_progress_at": row["starts_at"] if now >= row["starts_at"] and not errors else None,
            "finalizing_at": closed_at if status in ("completed", "expired") else None,
            "completed_at": closed_at if status == "completed" else None,
            "failed_at": row["starts_at"] if status == "failed" else None,
            "expired_at": closed_at if status == "expired" else None,
            "cancelling_at": asked,
            "cancelled_at": None if asked is None or status != "cancelled" else asked + row["cancelling_s"],
        }
        return {
            "id": row["id"],
            "object": "batch",
            "endpoint": ENDPOINT,
            "errors": {"object": "list", "data": errors} if errors and status == "failed" else None,
            "input_file_id": row["input_file_id"],
            "completion_window": "24h",
            "status": status,
            "output_file_id": row["output_file_id"] or no_file,
            "error_file_id": row["error_file_id"] or no_file,
            "created_at": int(row["created_at"]),
            "expires_at": int(row["created_at"]) + WINDOW_S,
            **{name: None if at is None else int(at) for name, at in times.items()},
            "metadata": orjson.loads(row["metadata"]),
            **self._counts(row, min(now, closed_at)),
        }

    def _counts(self, row: sqlite3.Row, now: float) -> dict[str, Json]:
        """How many lines have been answered or refused by now, and the tokens of those answered."""
        query = """
            SELECT count(*) AS total,
              coalesce(sum(line.ends_at <= :now AND status_code = 200), 0) AS completed,
              coalesce(sum(line.ends_at <= :now AND status_code <> 200), 0) AS refused,
              coalesce(sum(iif(line.ends_at <= :now, input_tokens, 0)), 0) AS input_tokens,
              coalesce(sum(iif(line.ends_at <= :now, cached_tokens, 0)), 0) AS cached_tokens,
              coalesce(sum(iif(line.ends_at <= :now, output_tokens, 0)), 0) AS output_tokens,
              coalesce(sum(iif(line.ends_at <= :now, reasoning_tokens, 0)), 0) AS reasoning_tokens
            FROM batch_line AS line LEFT JOIN response ON response.id = line.response_id
            WHERE batch_id = :batch_id
        """
        n = dict(self._state.rows(query, {"now": now, "batch_id": row["id"]})[0])
        # Lines that are unanswered at the end of the batch have failed, too.
        failed = n["total"] - n["completed"] if row["delivered"] else n["refused"]
        return {
            "request_counts": {"total": n["total"], "completed": n["completed"], "failed": failed},
            "usage": {
                "input_tokens": n["input_tokens"],
                "input_tokens_details": {"cached_tokens": n["cached_tokens"]},
                "output_tokens": n["output_tokens"],
                "output_tokens_details": {"reasoning_tokens": n["reasoning_tokens"]},
                "total_tokens": n["input_tokens"] + n["output_tokens"],
            },
        }


def _closes_at(row: sqlite3.Row) -> float:
    """When the batch closes: at its last reply, its completion window or its cancel, whichever comes first."""
    asked: float = math.inf if row["cancel_asked_at"] is None else row["cancel_asked_at"]
    return float(min(row["ends_at"], row["expires_at"], asked))


def _status(row: sqlite3.Row, now: float) -> str:
    if now < row["starts_at"] and row["cancel_asked_at"] is None:
        return "validating"
    if orjson.loads(row["errors"]):
        return "failed"
    closes_at = _closes_at(row)
    if now < closes_at:
        return "in_progress"
    if closes_at == row["ends_at"]:
        return "completed"
    if closes_at == row["cancel_asked_at"]:
        return "cancelling" if now < closes_at + row["cancelling_s"] else "cancelled"
    return "expired"


def _half_answered(lines: Sequence[BatchLine]) -> tuple[list[BatchLine], float]:
    """The lines with the later half of them unanswered, and when the last of the others is answered."""
    order = sorted(range(len(lines)), key=lambda number: (lines[number].ends_at, number))
    answered = set(order[: (len(lines) + 1) // 2])
    halved = [line if number in answered else replace(line, ends_at=math.inf) for number, line in enumerate(lines)]
    return halved, max(lines[number].ends_at for number in answered)


def _no_such_batch(batch_id: str) -> ErrorReply:
    message = f"No batch found with id '{batch_id}'."
    return error_reply(404, message, type="invalid_request_error", code=None, param="batch_id", kind="not_found")
