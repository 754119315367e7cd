"""Batches: files of requests that are answered within a day in a file of answers and a file of errors.

No task runs a batch. Its answers are made when it is created, its status follows from the time, and the first call
that finds it closed writes its files.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.storage.file_store import add_file
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["BatchLine", "BatchLineError", "BatchStore", "read_lines"]

Json: TypeAlias = Any

ENDPOINT = "/v1/responses"
WINDOW_S = 86_400
MAX_LINES = 50_000
# How long a cancelled batch is shown as cancelling.
_CANCELLING_S = 1
_ENDED = ("completed", "failed", "expired", "cancelled")
# What the error file says about an unanswered line, by the final status of the batch.
_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """One request of a batch with its reply; ``ends_at`` is when the reply is ready (infinity: never)."""

    custom_id: str
    ends_at: float
    status_code: int
    body: bytes
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchLineError:
    """What is wrong with the input file, at a line counted from 1; one error fails the whole batch."""

    message: str
    line: int | None = None
    param: str | None = None


def read_lines(content: bytes) -> tuple[list[dict[str, Json]], list[BatchLineError]]:
    """The requests of an input file, and the errors in it."""
    requests: list[dict[str, Json]] = []
    errors: list[BatchLineError] = []
    known: set[str] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        request = _parsed(text)
        error = _error_in(request, known, number)
        if error:
            errors.append(error)
        else:
            known.add(request["custom_id"])
            requests.append(request)
    if not requests and not errors:
        errors.append(BatchLineError("The input file is empty."))
    if len(requests) > MAX_LINES:
        errors.append(BatchLineError(f"The input file has {len(requests)} lines; at most {MAX_LINES} are allowed."))
    return requests, errors


def _parsed(text: bytes) -> Json:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _error_in(request: Json, known: set[str], number: int) -> BatchLineError | None:
    if not isinstance(request, dict):
        return BatchLineError("This line is not a JSON object.", number)
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return BatchLineError("Missing required parameter: 'custom_id'.", number, "custom_id")
    if custom_id in known:
        return BatchLineError(f"The custom_id '{custom_id}' was used before.", number, "custom_id")
    if request.get("method") != "POST":
        return BatchLineError("The method must be 'POST'.", number, "method")
    if request.get("url") != ENDPOINT:
        return BatchLineError(f"The url must be the batch's endpoint, '{ENDPOINT}'.", number, "url")
    if not isinstance(request.get("body"), dict):
        return BatchLineError("The body must be an object.", number, "body")
    return None


class BatchStore:
    """The batches in the database; every call takes the current time."""

    def __init__(self, state: SandboxDatabase) -> None:
        self._state = state

    def create(
        self,
        lines: Sequence[BatchLine],
        errors: Sequence[BatchLineError],
        *,
        input_file_id: str,
        metadata: Mapping[str, str],
        file_lifetime_s: int | None,
        starts_at: float,
        now: float,
    ) -> str:
        """Stores a batch; returns its id."""
        batch_id = f"batch_{token_hex(16)}"
        ends_at = max((line.ends_at for line in lines), default=starts_at)
        shown_errors = [
            {"code": None, "line": each.line, "message": each.message, "param": each.param} for each in errors
        ]
        self._state.write(
            "INSERT INTO batch "
            "(id, created_at, starts_at, ends_at, input_file_id, metadata, file_lifetime_s, errors) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                batch_id,
                now,
                starts_at,
                max(starts_at, ends_at),
                input_file_id,
                orjson.dumps(metadata),
                file_lifetime_s,
                orjson.dumps(shown_errors),
            ),
        )
        for number, line in enumerate(lines):
            self._state.write(
                "INSERT INTO batch_line (batch_id, number, custom_id, ends_at, response_id, status_code, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (batch_id, number, line.custom_id, line.ends_at, line.response_id, line.status_code, line.body),
            )
        return batch_id

    def show(self, batch_id: str, now: float) -> dict[str, Json]:
        """The batch as the API shows it; writes its files if it has closed. Raises ``ErrorReply`` (404)."""
        row = self._row(batch_id)
        if _status(row, now) in _ENDED and not row["delivered"]:
            self._close(row, now)
            row = self._row(batch_id)
        return self._shown(row, now)

    def list_all(self, now: float) -> list[dict[str, Json]]:
        """All batches, oldest first."""
        rows = self._state.rows("SELECT id FROM batch ORDER BY position")
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
        good, bad = list[bytes](), list[bytes]()
        closed_at, status = _closes_at(row), _status(row, now)
        for line in self._lines(row):
            if line["ends_at"] > closed_at:
                bad.append(_file_line(line, error=_UNANSWERED[status]))
            elif line["status_code"] == 200:
                good.append(_file_line(line))
            else:
                bad.append(_file_line(line))
        written = [self._write_file(row, kind, lines, now) for kind, lines in (("output", good), ("error", bad))]
        self._state.write(
            "UPDATE batch SET delivered = 1, output_file_id = ?, error_file_id = ? WHERE id = ?",
            (*written, row["id"]),
        )
        self._state.write(
            "UPDATE response SET delivered = end_status WHERE ends_at <= ? AND id IN "
            "(SELECT response_id FROM batch_line WHERE batch_id = ?)",
            (closed_at, row["id"]),
        )

    def _write_file(self, row: sqlite3.Row, kind: str, lines: Iterable[bytes], now: float) -> str | None:
        content = b"".join(lines)
        if not content:
            return None
        expires_at = now + row["file_lifetime_s"] if row["file_lifetime_s"] else None
        return add_file(
            self._state, f"{row['id']}_{kind}.jsonl", content, purpose="batch_output", now=now, expires_at=expires_at
        )

    def _shown(self, row: sqlite3.Row, now: float) -> dict[str, Json]:
        status, closed_at, asked = _status(row, now), _closes_at(row), row["cancel_asked_at"]
        errors = orjson.loads(row["errors"])
        times = {
            "in_progress_at": row["starts_at"] if now >= row["starts_at"] and not errors else None,
            "finalizing_at": closed_at if status in ("completed", "expired") else None,
            "completed_at": closed_at if status == "completed" else None,
            "failed_at": row["starts_at"] if status == "failed" else None,
            "expired_at": closed_at if status == "expired" else None,
            "cancelling_at": asked,
            "cancelled_at": None if asked is None or status != "cancelled" else asked + _CANCELLING_S,
        }
        return {
            "id": row["id"],
            "object": "batch",
            "endpoint": ENDPOINT,
            "errors": {"object": "list", "data": errors} if errors and status == "failed" else None,
            "input_file_id": row["input_file_id"],
            "completion_window": "24h",
            "status": status,
            "output_file_id": row["output_file_id"],
            "error_file_id": row["error_file_id"],
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
    return float(min(row["ends_at"], row["created_at"] + WINDOW_S, asked))


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
        return "cancelling" if now < closes_at + _CANCELLING_S else "cancelled"
    return "expired"


def _file_line(line: sqlite3.Row, *, error: tuple[str, str] | None = None) -> bytes:
    """One line of an output or error file."""
    reply: Json = None
    if error is None:
        reply = {
            "status_code": line["status_code"],
            "request_id": f"req_{token_hex(16)}",
            "body": orjson.Fragment(line["body"]),
        }
    written = {
        "id": f"batch_req_{token_hex(16)}",
        "custom_id": line["custom_id"],
        "response": reply,
        "error": None if error is None else {"code": error[0], "message": error[1]},
    }
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)


def _no_such_batch(batch_id: str) -> ErrorReply:
    message = f"No batch found with id '{batch_id}'."
    return error_reply(404, message, type="invalid_request_error", code=None, param="batch_id", kind="not_found")
