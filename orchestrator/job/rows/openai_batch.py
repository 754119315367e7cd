"""OpenAI's batch input files: each line carries a whole request, which runs as it is."""

from __future__ import annotations

from typing import Any

from orchestrator.job.rows.formats import Columns, Malformed
from orchestrator.job.rows.jsonl import JsonLines

__all__ = ["BODY", "OpenAIBatch"]

BODY = "body"

_URL = "/v1/responses"

# A batch may ask for a stream or the background; here both are set by this program.
_DROPPED = ("background", "stream", "stream_options")


class OpenAIBatch(JsonLines):
    """Lines ``{"custom_id", "method", "url": "/v1/responses", "body"}`` (Batch API, input file)."""

    key_column: str | None = "custom_id"

    def parse(self, unit: bytes, columns: Columns = None) -> dict[str, Any]:
        line = super().parse(unit, columns)
        if line.get("url") != _URL:
            raise Malformed(f'"url" must be {_URL}; lines for other endpoints cannot run here')
        if line.get("method", "POST") != "POST":
            raise Malformed('"method" must be POST')
        body = line.get(BODY)
        if not isinstance(body, dict):
            raise Malformed('"body" must be an object: the request')
        return {"custom_id": line.get("custom_id"), BODY: {k: v for k, v in body.items() if k not in _DROPPED}}
