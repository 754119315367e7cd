"""The calls under ``/v1/files``: what was uploaded is kept, listed, handed back and deleted."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from secrets import token_hex
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.sandbox.endpoints.replies import json_reply, page_of
from orchestrator.sandbox.faults.api_errors import Denied, bad_request, refuse
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.checks import check_lifetime

__all__ = ["FileCalls", "add_file", "content_of"]

Json: TypeAlias = Any

_LARGEST_PAGE = 10_000
# What the input of a batch may be, and how long it is kept (responses API, "Batch API").
_LARGEST_BATCH = 200 * 1024 * 1024
_BATCH_LIFETIME_S = 30 * 86_400
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_SHOWN = "id, length(content) AS bytes, created_at, filename, purpose, expires_at"
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";]+)"?', re.IGNORECASE)
_FIELD = re.compile(r'\bname="([^"]*)"')
_FILENAME = re.compile(r'\bfilename="([^"]*)"')


class FileCalls:
    """Each call is given the request, and its ordinal among the calls of its kind, which decides nothing here."""

    def __init__(self, state: SandboxDatabase, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/files: keep a file, sent as a multipart form."""
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
        if purpose == "batch" and len(content) > _LARGEST_BATCH:
            message = f"The file is too large: a batch may have {_LARGEST_BATCH} bytes, and it has {len(content)}."
            raise bad_request(message, code=None, param="file")
        now = self._clock.now()
        lifetime_s = _lifetime_s(form) or (_BATCH_LIFETIME_S if purpose == "batch" else None)
        expires_at = None if lifetime_s is None else now + lifetime_s
        file_id = add_file(
            self._state, filename or "upload", content, purpose=purpose, now=now, expires_at=expires_at
        )
        await self._state.committed()
        return json_reply(self._show(file_id))

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}: its name, size and purpose."""
        return json_reply(self._show(request.path_params["file_id"]))

    async def list_files(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files: all files, or those of a ``purpose``, newest first unless ``order=asc``."""
        purpose = request.query_params.get("purpose")
        query = f"SELECT {_SHOWN} FROM file WHERE purpose = coalesce(?, purpose) ORDER BY position"  # noqa: S608
        now = self._clock.now()
        files = [_shown(row) for row in self._state.rows(query, (purpose,)) if _is_alive(row, now)]
        return json_reply(page_of(files, request.query_params, largest=_LARGEST_PAGE, usual=_LARGEST_PAGE))

    async def content(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}/content: the file as it was sent."""
        file_id = request.path_params["file_id"]
        _, content = content_of(self._state, file_id, self._clock.now())
        return Response(content, media_type="application/octet-stream")

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/files/{file_id}: delete it."""
        file_id = request.path_params["file_id"]
        self._show(file_id)
        self._state.write("DELETE FROM file WHERE id = ?", (file_id,))
        await self._state.committed()
        return json_reply({"id": file_id, "object": "file", "deleted": True})

    def _show(self, file_id: str) -> dict[str, Json]:
        row = self._state.row(f"SELECT {_SHOWN} FROM file WHERE id = ?", (file_id,))  # noqa: S608
        if row is None or not _is_alive(row, self._clock.now()):
            raise _no_such_file(file_id)
        return _shown(row)


def add_file(
    state: SandboxDatabase, filename: str, content: bytes, *, purpose: str, now: float, expires_at: float | None
) -> str:
    """Keep a file; returns its id."""
    file_id = f"file-{token_hex(16)}"
    state.write(
        "INSERT INTO file (id, created_at, filename, purpose, expires_at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (file_id, now, filename, purpose, expires_at, content),
    )
    return file_id


def content_of(state: SandboxDatabase, file_id: str, now: float) -> tuple[str, bytes]:
    """The purpose and the content of a file; raises ``Denied`` (404) where there is none."""
    row = state.row("SELECT purpose, expires_at, content FROM file WHERE id = ?", (file_id,))
    if row is None or not _is_alive(row, now):
        raise _no_such_file(file_id)
    return row["purpose"], bytes(row["content"])


def _lifetime_s(form: Mapping[str, tuple[str, bytes]]) -> int | None:
    """How long the upload is to be kept, if it says so."""
    said = {
        name: form[f"expires_after[{name}]"][1].decode(errors="replace")
        for name in ("anchor", "seconds")
        if f"expires_after[{name}]" in form
    }
    if not said:
        return None
    seconds = said.get("seconds", "")
    check_lifetime(
        {"anchor": said.get("anchor"), "seconds": int(seconds) if seconds.isdecimal() else seconds}, "expires_after"
    )
    return int(seconds)


def _is_alive(row: sqlite3.Row, now: float) -> bool:
    return row["expires_at"] is None or now < row["expires_at"]


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
