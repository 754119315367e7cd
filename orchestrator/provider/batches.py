"""The calls of the Batch API: upload a file, create a batch of it, look at it, list, cancel, and read its results."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import BatchError, Problem, Refused, ReplyLost
from orchestrator.provider.batch_lines import ENDPOINT, split_lines
from orchestrator.provider.client import CallFailed, ResponsesClient
from orchestrator.provider.reply_json import read_json
from orchestrator.provider.streaming import OpenReply, StreamTransport
from orchestrator.provider.transport import DEFAULT_REPLY_BYTES, Reply, Transport, TransportError

__all__ = ["Batch", "BatchClient", "BatchUpload"]

_JSON = {"Content-Type": "application/json"}
# A file of results that is silent for so long has broken off; the next try reads it again.
_SILENCE_S = 120.0
_MOST_REPLY_BYTES = 2**20
# An upload whose reply was lost is deleted by the provider after so long (3 days; at most 30 are possible).
_LIFETIME_S = 3 * 86_400


@fast_dataclass
class Batch:
    """A batch as the provider showed it. ``status`` is its word, verbatim; a file that does not exist is None."""

    id: str
    status: str
    output_file: str | None = None
    error_file: str | None = None
    errors: tuple[BatchError, ...] = ()
    answered: int = 0
    refused: int = 0
    created_at: float | None = None
    metadata: Mapping[str, Any] | None = None


@fast_dataclass
class BatchUpload:
    """A file to upload: its size is known, and its content comes in pieces."""

    name: str
    size: int
    pieces: AsyncIterator[bytes]


class BatchClient(ResponsesClient):
    """As ``ResponsesClient``, with the calls for batches; files go over ``streams``, because they are large."""

    def __init__(
        self,
        transport: Transport,
        streams: StreamTransport,
        *,
        status_aliases: Mapping[str, str] | None = None,
        most_line_bytes: int = DEFAULT_REPLY_BYTES,
    ) -> None:
        super().__init__(transport, status_aliases=status_aliases)
        self.status_aliases = dict(status_aliases or {})
        self._streams = streams
        self._most_line_bytes = most_line_bytes

    async def upload_batch(self, file: BatchUpload) -> str | Problem:
        """Upload the input of a batch; returns the file's id."""
        boundary = f"orchestrator-{secrets.token_hex(16)}"
        head, tail = _form(boundary, file.name)

        async def body() -> AsyncIterator[bytes]:
            yield head
            async for piece in file.pieces:
                yield piece
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + file.size + len(tail)),
        }
        try:
            opened = await self._streams.open("POST", "/files", body=body(), headers=headers, silence_s=_SILENCE_S)
            reply = await _whole(opened)
        except TransportError as error:
            return error.problem
        return _id_in(reply) or self._refusal_or_lost(reply)

    async def create_batch(self, input_file: str, metadata: Mapping[str, str]) -> Batch | Problem:
        """Create a batch of an uploaded file."""
        fields = {
            "input_file_id": input_file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": metadata,
        }
        return self._batch(await self._call("POST", "/batches", body=to_json(fields), headers=_JSON))

    async def batch(self, batch_id: str) -> Batch | Problem:
        """Look at a batch."""
        return self._batch(await self._call("GET", _path(batch_id)))

    async def cancel_batch(self, batch_id: str) -> Batch | Problem:
        """Ask the provider to stop a batch; what is answered by then is delivered and charged."""
        return self._batch(await self._call("POST", f"{_path(batch_id)}/cancel"))

    async def find_batches(self, mark: str, *, since: float) -> dict[str, Batch]:
        """The batches that carry a mark in their metadata, by its value; raises ``CallFailed``.

        They are listed from the newest to the oldest, down to those created before ``since``.
        """
        found: dict[str, Batch] = {}
        async for item in self._listed("/batches", None):
            batch = _parse(item)
            if batch is None:
                continue
            value = (batch.metadata or {}).get(mark)
            if isinstance(value, str):
                found.setdefault(value, batch)
            if batch.created_at is not None and batch.created_at < since:
                break
        return found

    async def result_lines(self, file_id: str) -> AsyncIterator[bytes]:
        """Yields the lines of a result file while it arrives; raises ``CallFailed`` if that breaks off."""
        try:
            reply = await self._streams.open("GET", f"/files/{quote(file_id, safe='')}/content", silence_s=_SILENCE_S)
        except TransportError as error:
            raise CallFailed(error.problem) from None
        try:
            if reply.status >= 300:
                raise CallFailed(self._refused(await _whole(reply)))
            async for line in split_lines(reply.chunks(), most_bytes=self._most_line_bytes):
                yield line
        except TransportError as error:
            raise CallFailed(error.problem) from None
        finally:
            await reply.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await super().aclose()
        await self._streams.aclose()

    def _batch(self, reply: Reply | Problem) -> Batch | Problem:
        if not isinstance(reply, Reply):
            return reply
        batch = _parse(_document(reply)) if reply.status < 300 else None
        return batch or self._refusal_or_lost(reply)

    def _refusal_or_lost(self, reply: Reply) -> Refused | ReplyLost:
        if reply.status >= 300:
            return self._refused(reply)
        return ReplyLost(reason="the reply is not what this call answers with", status=reply.status)


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"


def _form(boundary: str, name: str) -> tuple[bytes, bytes]:
    """What surrounds the file in a multipart form."""
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    fields = {
        "purpose": "batch",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": str(_LIFETIME_S),
    }
    head = "".join(f'{begin}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items())
    head += f'{begin}"file"; filename="{name}"\r\nContent-Type: application/jsonl\r\n\r\n'
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


async def _whole(opened: OpenReply) -> Reply:
    body = bytearray()
    try:
        async for chunk in opened.chunks():
            body += chunk
            if len(body) > _MOST_REPLY_BYTES:
                break
    finally:
        await opened.aclose()
    return Reply(status=opened.status, headers=opened.headers, body=bytes(body))


def _document(reply: Reply) -> Any:
    try:
        return read_json(reply.body)[0]
    except ValueError:
        return None


def _id_in(reply: Reply) -> str | None:
    document = _document(reply) if reply.status < 300 else None
    return _text(document.get("id")) if isinstance(document, dict) else None


def _parse(document: Any) -> Batch | None:
    """A batch in a reply: only its id and status are required, and a field of the wrong type counts as absent."""
    if not isinstance(document, dict):
        return None
    batch_id, status = _text(document.get("id")), _text(document.get("status"))
    if batch_id is None or status is None:
        return None
    metadata, counts = document.get("metadata"), document.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    return Batch(
        id=batch_id,
        status=status,
        # Servers say "" in place of null.
        output_file=_text(document.get("output_file_id")),
        error_file=_text(document.get("error_file_id")),
        errors=tuple(_errors(document.get("errors"))),
        answered=_whole_number(counts.get("completed")) or 0,
        refused=_whole_number(counts.get("failed")) or 0,
        created_at=_time(document.get("created_at")),
        metadata=metadata if isinstance(metadata, dict) else None,
    )


def _errors(errors: Any) -> list[BatchError]:
    data = errors.get("data") if isinstance(errors, dict) else None
    return [
        BatchError(
            code=_text(each.get("code")),
            message=_text(each.get("message")) or "",
            line=_whole_number(each.get("line")),
        )
        for each in (data if isinstance(data, list) else [])
        if isinstance(each, dict)
    ]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
