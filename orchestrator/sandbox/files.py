"""The calls under ``/v1/files``: what was uploaded is kept, listed, handed back and deleted."""

from __future__ import annotations

import re
import sqlite3
from secrets import token_hex
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.sandbox.denials import Denied, bad_request, refuse
from orchestrator.sandbox.replies import json_reply, page_of
from orchestrator.sandbox.state import State

__all__ = ["FileCalls"]

Json: TypeAlias = Any

_LARGEST_PAGE = 10_000
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_SHOWN = "id, length(content) AS bytes, created_at, filename, purpose, expires_at"
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";]+)"?', re.IGNORECASE)
_FIELD = re.compile(r'\bname="([^"]*)"')
_FILENAME = re.compile(r'\bfilename="([^"]*)"')


class FileCalls:
    """Each call is given the request, and its ordinal among the calls of its kind, which decides nothing here."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/files, as a multipart form."""
        form = read_form(request.headers.get("content-type", ""), await request.body())
        filename, content = form.get("file", ("", b""))
        purpose = form.get("purpose", ("", b""))[1].decode(errors="replace")
        if "file" not in form or not purpose:
            missing = "purpose" if "file" in form else "file"
            message = f"Missing required parameter: '{missing}'."
            raise bad_request(message, code="missing_required_parameter", param=missing)
        if purpose not in _PURPOSES:
            allowed = ", ".join(f"'{each}'" for each in _PURPOSES)
            message = f"Invalid value: '{purpose}'. Supported values are: {allowed}."
            raise bad_request(message, code="invalid_value", param="purpose")
        now = self._clock.now()
        lifetime = form.get("expires_after[seconds]", ("", b""))[1].decode(errors="replace")
        expires_at = now + int(lifetime) if lifetime.isdecimal() else None
        file_id = f"file-{token_hex(16)}"
        self._state.write(
            "INSERT INTO file (id, created_at, filename, purpose, expires_at, content) VALUES (?, ?, ?, ?, ?, ?)",
            (file_id, now, filename or "upload", purpose, expires_at, content),
        )
        await self._state.committed()
        return json_reply(self._show(file_id))

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}."""
        return json_reply(self._show(request.path_params["file_id"]))

    async def list_files(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files, newest first unless ``order=asc``."""
        purpose = request.query_params.get("purpose")
        query = f"SELECT {_SHOWN} FROM file WHERE purpose = coalesce(?, purpose) ORDER BY position"  # noqa: S608
        files = [_shown(row) for row in self._state.rows(query, (purpose,)) if self._is_alive(row)]
        return json_reply(page_of(files, request.query_params, largest=_LARGEST_PAGE, usual=_LARGEST_PAGE))

    async def content(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}/content."""
        file_id = request.path_params["file_id"]
        self._show(file_id)
        row = self._state.row("SELECT content FROM file WHERE id = ?", (file_id,))
        return Response(bytes(row["content"]) if row else b"", media_type="application/octet-stream")

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/files/{file_id}."""
        file_id = request.path_params["file_id"]
        self._show(file_id)
        self._state.write("DELETE FROM file WHERE id = ?", (file_id,))
        await self._state.committed()
        return json_reply({"id": file_id, "object": "file", "deleted": True})

    def _show(self, file_id: str) -> dict[str, Json]:
        row = self._state.row(f"SELECT {_SHOWN} FROM file WHERE id = ?", (file_id,))  # noqa: S608
        if row is None or not self._is_alive(row):
            raise _no_such_file(file_id)
        return _shown(row)

    def _is_alive(self, row: sqlite3.Row) -> bool:
        return row["expires_at"] is None or self._clock.now() < row["expires_at"]


def read_form(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The fields of a multipart form by name, each as (filename, content); raises ``Denied`` for anything else."""
    boundary = _BOUNDARY.match(content_type)
    if boundary is None:
        raise bad_request("The body must be a multipart form.", code=None, param=None)
    form: dict[str, tuple[str, bytes]] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        words = head.decode(errors="replace")
        name, filename = _FIELD.search(words), _FILENAME.search(words)
        if name:
            form[name[1]] = (filename[1] if filename else "", content)
    return form


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


def _no_such_file(file_id: str) -> Denied:
    message = f"No such File object: {file_id}"
    return refuse(404, message, type="invalid_request_error", code=None, param="id", kind="not_found")
