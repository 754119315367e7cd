"""Errors as the API replies them; raised anywhere in a call to end it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

__all__ = ["ErrorReply", "bad_request", "error_reply", "not_found"]


class ErrorReply(Exception):
    """Ends a call with ``response``; the ledger counts it as ``kind``."""

    def __init__(self, kind: str, response: Response) -> None:
        super().__init__(kind)
        self.kind = kind
        self.response = response


def error_reply(
    status: int,
    message: str,
    *,
    type: str,  # noqa: A002 - the name of the key in the provider's error body
    code: str | None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> ErrorReply:
    """An error in the provider's envelope (responses API, "errors": all four keys are always present)."""
    body = orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})
    response = Response(body, status, headers=headers, media_type="application/json")
    return ErrorReply(kind or code or type, response)


def bad_request(message: str, *, code: str | None, param: str | None) -> ErrorReply:
    """HTTP 400 for a request that no retry can make right."""
    return error_reply(400, message, type="invalid_request_error", code=code, param=param)


def not_found(response_id: str) -> ErrorReply:
    """HTTP 404 for a response that is unknown, deleted or expired; the API does not say which."""
    message = f"Response with id '{response_id}' not found."
    return error_reply(404, message, type="invalid_request_error", code=None, kind="not_found")
