"""A call that is denied: what the provider answers, and under which word the ledger counts it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

__all__ = ["Denied", "bad_request", "not_found", "refuse"]


class Denied(Exception):
    """Raised anywhere in a call to end it with ``response``; ``kind`` is what the ledger counts it as."""

    def __init__(self, kind: str, response: Response) -> None:
        super().__init__(kind)
        self.kind = kind
        self.response = response


def refuse(
    status: int,
    message: str,
    *,
    type: str,  # noqa: A002 - the name of the key in the provider's error body
    code: str | None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> Denied:
    """An error in the provider's envelope (responses API, "errors": all four keys are always there)."""
    body = orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})
    response = Response(body, status, headers=headers, media_type="application/json")
    return Denied(kind or code or type, response)


def bad_request(message: str, *, code: str | None, param: str | None) -> Denied:
    """HTTP 400 for a request that is wrong and stays wrong."""
    return refuse(400, message, type="invalid_request_error", code=code, param=param)


def not_found(response_id: str) -> Denied:
    """HTTP 404 for a response that is unknown, deleted or expired; the API does not say which."""
    message = f"Response with id '{response_id}' not found."
    return refuse(404, message, type="invalid_request_error", code=None, kind="not_found")
