"""The replies to calls that a fault refuses before the sandbox does anything with them."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request, error_reply
from orchestrator.sandbox.faults.broken_replies import Dropped, HangUp, Silence, gateway_error, html_page
from orchestrator.sandbox.faults.damaged_bodies import no_response

__all__ = ["conversation_locked", "overloaded", "refusal_of_create", "refusal_of_poll", "wrong_key"]

# Refusals in the provider's own envelope: status, type, code and message. Unknown: the codes of 408, 409 and 422, and
# the type and code when flex capacity is lacking (the guide gives only the message).
_ERRORS: dict[str, tuple[int, str, str | None, str]] = {
    "slow_down": (
        429,
        "rate_limit_error",
        "slow_down",
        "The load rose too quickly. Slow down, and raise it again gradually.",
    ),
    "insufficient_quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "server_error": (
        500,
        "server_error",
        "server_error",
        "The server had an error while processing your request. Sorry about that!",
    ),
    "overloaded": (
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        "The server is currently overloaded. Please try again later.",
    ),
    "flex_unavailable": (
        429,
        "rate_limit_error",
        None,
        "Resource Unavailable: there is no flex capacity at the moment, and you were not charged.",
    ),
    "forbidden": (
        403,
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported.",
    ),
    "request_timeout": (408, "invalid_request_error", None, "The request did not arrive in time."),
    "conflict": (409, "invalid_request_error", None, "Another request holds what this one needs. Please try again."),
    "unprocessable": (422, "invalid_request_error", None, "The request is well-formed, but cannot be processed."),
}


def refusal_of_create(fault: str, *, retry_after: str | None, hang_up: HangUp) -> ErrorReply:
    """The reply to a create that one of the settings' refusals strikes."""
    if fault in _ERRORS:
        status, kind, code, message = _ERRORS[fault]
        return error_reply(status, message, type=kind, code=code, kind=fault)
    match fault:
        case "rate_limited":
            return _rate_limited(fault, retry_after)
        case "bad_gateway_before":
            return ErrorReply(fault, gateway_error(502))
        case "html_502":
            return ErrorReply(fault, html_page(502))
        case "queue_full":
            body = b'{"detail":"Background worker queue is full. Please try again later."}'
            return ErrorReply(fault, Response(body, 400, media_type="application/json"))
        case "conversation_locked":
            return conversation_locked()
        case "drop_before":
            return ErrorReply(fault, Dropped(hang_up))
        case _:
            raise ValueError(f"no refusal is called {fault!r}")


def refusal_of_poll(fault: str, *, not_found: ErrorReply, retry_after: str | None, hang_up: HangUp) -> ErrorReply:
    """The reply to a poll that one of the settings' faults of polls strikes."""
    match fault:
        case "poll_500":
            status, kind, code, message = _ERRORS["server_error"]
            return error_reply(status, message, type=kind, code=code, kind=fault)
        case "poll_429":
            return _rate_limited(fault, retry_after)
        case "poll_404":
            return ErrorReply(fault, not_found.response)
        case "poll_drop":
            return ErrorReply(fault, Dropped(hang_up))
        case "poll_html":
            return ErrorReply(fault, html_page(200))
        case "poll_hang":
            return ErrorReply(fault, Silence())
        case "poll_unreadable":
            return ErrorReply(fault, Response(no_response(), media_type="application/json"))
        case _:
            raise ValueError(f"no fault of polls is called {fault!r}")


def overloaded() -> ErrorReply:
    """503, as while the provider is under too much load."""
    status, kind, code, message = _ERRORS["overloaded"]
    return error_reply(status, message, type=kind, code=code, kind="overloaded")


def conversation_locked() -> ErrorReply:
    """400 while another response writes to the conversation."""
    message = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return bad_request(message, code="conversation_locked", param="conversation")


def wrong_key(message: str) -> ErrorReply:
    """401; the message never repeats the key."""
    return error_reply(401, message, type="invalid_request_error", code="invalid_api_key")


def _rate_limited(kind: str, retry_after: str | None) -> ErrorReply:
    message = "Rate limit reached on requests per min (RPM). Please try again later."
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return error_reply(429, message, type="requests", code="rate_limit_exceeded", headers=headers, kind=kind)
