"""Uploaded files, and those that batches write, until they are deleted or expire."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from secrets import token_hex
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request, error_reply
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["NewFile", "add_file", "delete_file", "list_files", "read_batch_input", "read_file", "show_file"]

Json: TypeAlias = Any

_SHOWN = "id, length(content) AS bytes, created_at, filename, purpose, expires_at"


@fast_dataclass
class NewFile:
    """A file to store; at ``complete_at`` batches know it, and ``late_content`` joins its content."""

    filename: str
    content: bytes
    purpose: str
    expires_at: float | None
    complete_at: float = 0
    late_content: bytes = b""


def add_file(state: SandboxDatabase, file: NewFile, now: float) -> str:
    """Stores a file; returns its id."""
    file_id = f"file-{token_hex(16)}"
    state.write(
        "INSERT INTO file (id, created_at, filename, purpose, expires_at, content, complete_at, late_content) "
        "VALUES (:id, :now, :filename, :purpose, :expires_at, :content, :complete_at, :late_content)",
        {"id": file_id, "now": now, **asdict(file)},
    )
    return file_id


def read_file(state: SandboxDatabase, file_id: str, now: float) -> bytes:
    """The content of a file; raises ``ErrorReply`` (404) if it is unknown, deleted or expired."""
    row = _row(state, file_id, now)
    late = bytes(row["late_content"]) if now >= row["complete_at"] else b""
    return bytes(row["content"]) + late


def read_batch_input(state: SandboxDatabase, file_id: str, now: float) -> bytes:
    """The content of a batch's input; raises ``ErrorReply`` (400) for a file of another purpose or not yet known."""
    row = _row(state, file_id, now)
    if row["purpose"] != "batch":
        message = f"The file '{file_id}' was uploaded for the purpose '{row['purpose']}', not 'batch'."
        raise bad_request(message, code=None, param="input_file_id")
    if now < row["complete_at"]:
        raise bad_request(f"Cannot find file: {file_id}", code=None, param="input_file_id")
    return bytes(row["content"])


def _row(state: SandboxDatabase, file_id: str, now: float) -> sqlite3.Row:
    columns = "purpose, expires_at, content, complete_at, late_content"
    row = state.row(f"SELECT {columns} FROM file WHERE id = ?", (file_id,))  # noqa: S608
    if row is None or _has_expired(row, now):
        raise _no_such_file(file_id)
    return row


def show_file(state: SandboxDatabase, file_id: str, now: float) -> dict[str, Json]:
    """A file as the API shows it; raises ``ErrorReply`` (404) like ``read_file``."""
    row = state.row(f"SELECT {_SHOWN} FROM file WHERE id = ?", (file_id,))  # noqa: S608
    if row is None or _has_expired(row, now):
        raise _no_such_file(file_id)
    return _shown(row)


def list_files(state: SandboxDatabase, purpose: str | None, now: float) -> list[dict[str, Json]]:
    """All files, or those of a purpose, oldest first."""
    query = f"SELECT {_SHOWN} FROM file WHERE purpose = coalesce(?, purpose) ORDER BY position"  # noqa: S608
    return [_shown(row) for row in state.rows(query, (purpose,)) if not _has_expired(row, now)]


def delete_file(state: SandboxDatabase, file_id: str) -> None:
    """Deletes a file, if it exists."""
    state.write("DELETE FROM file WHERE id = ?", (file_id,))


def _has_expired(row: sqlite3.Row, now: float) -> bool:
    return row["expires_at"] is not None and now >= row["expires_at"]


def _shown(row: sqlite3.Row) -> dict[str, Json]:
    expires_at = row["expires_at"]
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": int(row["created_at"]),
        "expires_at": None if expires_at is None else int(expires_at),
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
    }


def _no_such_file(file_id: str) -> ErrorReply:
    message = f"No such File object: {file_id}"
    return error_reply(404, message, type="invalid_request_error", code=None, param="id", kind="not_found")
