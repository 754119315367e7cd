"""Uploaded files, and those that batches write, until they are deleted or expire."""

from __future__ import annotations

import sqlite3
from secrets import token_hex
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["add_file", "delete_file", "list_files", "read_file", "show_file"]

Json: TypeAlias = Any

_SHOWN = "id, length(content) AS bytes, created_at, filename, purpose, expires_at"


def add_file(
    state: SandboxDatabase, filename: str, content: bytes, *, purpose: str, now: float, expires_at: float | None
) -> str:
    """Stores a file; returns its id."""
    file_id = f"file-{token_hex(16)}"
    state.write(
        "INSERT INTO file (id, created_at, filename, purpose, expires_at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (file_id, now, filename, purpose, expires_at, content),
    )
    return file_id


def read_file(state: SandboxDatabase, file_id: str, now: float) -> tuple[str, bytes]:
    """The purpose and the content of a file; raises ``ErrorReply`` (404) if it is unknown, deleted or expired."""
    row = state.row("SELECT purpose, expires_at, content FROM file WHERE id = ?", (file_id,))
    if row is None or _has_expired(row, now):
        raise _no_such_file(file_id)
    return row["purpose"], bytes(row["content"])


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
