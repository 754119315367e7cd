"""The files of batches: the lines of the input are read, and those of the output and error files written."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["ENDPOINT", "BatchLineError", "ResultFile", "file_line", "read_lines"]

Json: TypeAlias = Any

ENDPOINT = "/v1/responses"
MAX_LINES = 50_000


@fast_dataclass(kw_only=False)
class BatchLineError:
    """What is wrong with the input file, at a line counted from 1; one error fails the whole batch."""

    message: str
    line: int | None = None
    param: str | None = None
    code: str | None = None


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


@dataclass(slots=True)
class ResultFile:
    """The lines of an output or error file, and those that join it late."""

    first: list[bytes] = field(default_factory=list)
    late: list[bytes] = field(default_factory=list)

    def add(self, line: bytes, fault: str | None) -> None:
        """Adds a line that a fault may hold back, repeat or lose."""
        if fault == "batch_late_lines":
            self.late.append(line)
        elif fault != "batch_missing_lines":
            self.first += [line] * (2 if fault == "batch_repeated_lines" else 1)


def file_line(line: sqlite3.Row, *, error: tuple[str, str] | None = None) -> bytes:
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
