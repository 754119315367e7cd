"""Reads error replies in all the shapes that providers and gateways use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json

from orchestrator.core.problems import Refused
from orchestrator.provider.body_text import body_text, collapse
from orchestrator.provider.headers import parse_rate_limits, request_id, retry_after, should_retry
from orchestrator.provider.reply_json import leading_fields, read_json
from orchestrator.provider.transport import Reply

__all__ = ["code_text", "error_fields", "parse_refusal"]

_LONGEST_EXPLANATION = 2**20
# No code has more digits; Python refuses to write integers of thousands.
_LARGEST_CODE = 10**18


def parse_refusal(reply: Reply, *, now: float) -> Refused:
    """Returns what an error reply says.

    It reads ``{"error": {…}}``, ``{"error": "text"}``, ``{"detail": …}`` and ``{"message": …}``, also if cut off in
    the middle; of any other body it keeps the text (of a page its title).
    """
    error = error_fields(_document(reply.body))
    message = _location(reply) or _text(error.get("message")) or body_text(reply.body) or _phrase(reply.status)
    return Refused(
        status=reply.status,
        code=code_text(error.get("code")),
        type=code_text(error.get("type")),
        param=code_text(error.get("param")),
        message=message,
        retry_after_s=retry_after(reply.headers, now),
        should_retry=should_retry(reply.headers),
        rate_limits=parse_rate_limits(reply.headers),
        request_id=request_id(reply.headers),
    )


def error_fields(document: Any) -> Mapping[str, Any]:
    """Returns the object of an error body that has ``message``, ``code`` and so on; empty if there is none."""
    match document:
        case {"error": dict() as error}:
            # OpenRouter puts the error type outside the envelope (responses API, other servers).
            return {"type": document.get("error_type"), **error}
        case {"error": str() as error}:
            message = _text(document.get("message"))
            return {**document, "message": f"{error}: {message}" if message else error}
        case {"detail": dict() as detail}:
            return error_fields(detail) or detail
        case {"detail": str() as detail}:
            return {"message": detail}
        case {"detail": list() as details}:
            return {"message": "; ".join(_validator_messages(details))}
        case {"message": str()}:
            return dict(document)
    return {}


def code_text(value: Any) -> str | None:
    """Returns a code as text; some servers send numbers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < _LARGEST_CODE else None
    return (collapse(value) or None) if isinstance(value, str) else None


def _document(body: bytes) -> Any:
    # An explanation is short; whatever comes later is not read.
    body = body[:_LONGEST_EXPLANATION]
    for read in (_whole, _cut_off):
        with suppress(ValueError):
            return read(body)
    return leading_fields(body)


def _whole(body: bytes) -> Any:
    return read_json(body)[0]


def _cut_off(body: bytes) -> Any:
    return from_json(body, allow_partial=True)


def _validator_messages(details: Iterable[Any]) -> Iterable[str]:
    """Yields one line per error of a validator, without the ``input`` that quotes the request."""
    for detail in details:
        match detail:
            case str():
                yield detail
            case {"loc": list() as place, "msg": str() as message}:
                yield f"{'.'.join(str(part) for part in place)}: {message}"
            case {"msg": str() as message}:
                yield message


def _text(value: Any) -> str:
    return collapse(value) if isinstance(value, str) else ""


def _location(reply: Reply) -> str | None:
    """Returns where a redirect points; it is not followed, because a create call must not be sent twice."""
    target = reply.headers.get("location")
    if target is None or not 300 <= reply.status < 400:
        return None
    return collapse(f"redirected to {urlsplit(target)._replace(query='', fragment='').geturl()}")


def _phrase(status: int) -> str:
    try:
        return f"{HTTPStatus(status).phrase} (empty reply)"
    except ValueError:
        return "empty reply"
