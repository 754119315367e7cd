"""What all calls share: JSON bodies, JSON replies and lists in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from starlette.responses import Response

from orchestrator.sandbox.faults.api_errors import bad_request

__all__ = ["json_reply", "page_of", "parse_object"]

Json: TypeAlias = Any

# Responses API, "input_items".
_MAX_LIMIT = 100
_DEFAULT_LIMIT = 20


def json_reply(value: Json) -> Response:
    """A value as a JSON reply."""
    return Response(orjson.dumps(value), media_type="application/json")


def parse_object(body: bytes) -> dict[str, Json]:
    """The JSON object in a body; raises ``ErrorReply`` (400) for anything else."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("We could not parse the JSON body of your request.", code=None, param=None) from None
    if not isinstance(fields, dict):
        raise bad_request("The body of your request must be a JSON object.", code="invalid_type", param=None)
    return fields


def page_of(
    items: Sequence[dict[str, Json]],
    query: Mapping[str, str],
    *,
    max_limit: int = _MAX_LIMIT,
    default_limit: int = _DEFAULT_LIMIT,
) -> dict[str, Json]:
    """One page of a list, newest first unless the query says ``order=asc``; ``items`` must be oldest first."""
    order, limit, after = query.get("order", "desc"), query.get("limit", str(default_limit)), query.get("after")
    if order not in ("asc", "desc"):
        message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
        raise bad_request(message, code="invalid_value", param="order")
    if not limit.isdecimal() or not 1 <= int(limit) <= max_limit:
        message = f"Invalid 'limit': expected an integer from 1 to {max_limit}, but got '{limit}' instead."
        raise bad_request(message, code="invalid_value", param="limit")
    ordered = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    if after is not None and after not in ids:
        raise bad_request(f"No item with id '{after}' found.", code="invalid_value", param="after")
    start = ids.index(after) + 1 if after is not None else 0
    data = ordered[start : start + int(limit)]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + len(data) < len(ordered),
    }
