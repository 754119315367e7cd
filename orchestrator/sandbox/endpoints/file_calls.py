"""The calls under ``/v1/files``: upload, list, download and delete files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.sandbox.endpoints.call_context import CallContext
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of
from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.faults.broken_replies import gateway_error
from orchestrator.sandbox.storage.file_store import NewFile, add_file, delete_file, list_files, read_file, show_file
from orchestrator.sandbox.validation.checks import check_lifetime

__all__ = ["FileCalls"]

# The fields of a multipart form by name, each as (filename, content).
Form: TypeAlias = Mapping[str, tuple[str, bytes]]

_MAX_PAGE = 10_000
# The size limit of a batch's input, and how long it is kept (responses API, "Batch API").
_MAX_BATCH_BYTES = 200 * 1024 * 1024
_BATCH_LIFETIME_S = 30 * 86_400
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_BOUNDARY = re.compile(r'multipart/form-data;.*boundary="?([^";]+)"?', re.IGNORECASE)
_FIELD = re.compile(r'\bname="([^"]*)"')
_FILENAME = re.compile(r'\bfilename="([^"]*)"')


class FileCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which is not used here."""

    def __init__(self, context: CallContext) -> None:
        self._state = context.state
        self._clock = context.clock
        self._fault_plan = context.fault_plan
        self._faults = context.settings.faults

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/files: store a file, sent as a multipart form."""
        form = _read_form(request.headers.get("content-type", ""), await request.body())
        purpose = _checked_purpose(form)
        filename, content = form["file"]
        now = self._clock.now()
        lifetime_s = _lifetime_s(form) or (_BATCH_LIFETIME_S if purpose == "batch" else None)
        expires_at = None if lifetime_s is None else now + lifetime_s
        fault = self._fault_plan.fault_of_file(self._state.count("batch_files")) if purpose == "batch" else None
        file = NewFile(
            filename=filename or "upload",
            content=content,
            purpose=purpose,
            expires_at=expires_at,
            complete_at=now + self._faults.batch_late_s if fault == "file_late" else 0,
        )
        file_id = add_file(self._state, file, now)
        await self._state.committed()
        if fault == "file_reply_lost":
            return gateway_error(502)
        return json_reply(show_file(self._state, file_id, now))

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}: its name, size and purpose."""
        return json_reply(show_file(self._state, request.path_params["file_id"], self._clock.now()))

    async def list_files(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files: all files, or those of a ``purpose``, newest first unless ``order=asc``."""
        files = list_files(self._state, request.query_params.get("purpose"), self._clock.now())
        return json_reply(page_of(files, request.query_params, max_limit=_MAX_PAGE, default_limit=_MAX_PAGE))

    async def content(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/files/{file_id}/content: the file as it was uploaded."""
        content = read_file(self._state, request.path_params["file_id"], self._clock.now())
        return Response(content, media_type="application/octet-stream")

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/files/{file_id}: delete it."""
        file_id = request.path_params["file_id"]
        show_file(self._state, file_id, self._clock.now())
        delete_file(self._state, file_id)
        await self._state.committed()
        return json_reply({"id": file_id, "object": "file", "deleted": True})


def _checked_purpose(form: Form) -> str:
    """The purpose of an upload; raises ``ErrorReply`` (400) if the form lacks a field or has a wrong one."""
    purpose = form.get("purpose", ("", b""))[1].decode(errors="replace")
    if "file" not in form or not purpose:
        missing = "purpose" if "file" in form else "file"
        message = f"Missing required parameter: '{missing}'."
        raise bad_request(message, code="missing_required_parameter", param=missing)
    if purpose not in _PURPOSES:
        allowed = ", ".join(f"'{each}'" for each in _PURPOSES)
        message = f"Invalid value: '{purpose}'. Supported values are: {allowed}."
        raise bad_request(message, code="invalid_value", param="purpose")
    size = len(form["file"][1])
    if purpose == "batch" and size > _MAX_BATCH_BYTES:
        message = f"The file is too large: a batch may have {_MAX_BATCH_BYTES} bytes, and it has {size}."
        raise bad_request(message, code=None, param="file")
    return purpose


def _lifetime_s(form: Form) -> int | None:
    """How long the upload will be kept, if the form says so."""
    given = {
        name: form[f"expires_after[{name}]"][1].decode(errors="replace")
        for name in ("anchor", "seconds")
        if f"expires_after[{name}]" in form
    }
    if not given:
        return None
    seconds = given.get("seconds", "")
    check_lifetime(
        {"anchor": given.get("anchor"), "seconds": int(seconds) if seconds.isdecimal() else seconds}, "expires_after"
    )
    return int(seconds)


def _read_form(content_type: str, body: bytes) -> Form:
    """The fields of a multipart form; raises ``ErrorReply`` (400) for anything else."""
    boundary = _BOUNDARY.match(content_type)
    if boundary is None:
        raise bad_request("The body must be a multipart form.", code=None, param=None)
    form: dict[str, tuple[str, bytes]] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        header = head.decode(errors="replace")
        name, filename = _FIELD.search(header), _FILENAME.search(header)
        if name:
            form[name[1]] = (filename[1] if filename else "", content)
    return form
