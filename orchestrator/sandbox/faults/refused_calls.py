"""The faults that strike a call before anything is done with it, as the replies that a client gets."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.sandbox.faults.api_errors import Denied, bad_request, refuse
from orchestrator.sandbox.faults.broken_replies import Dropped, HangUp, Silence

__all__ = [
    "conversation_locked",
    "gateway_error",
    "html_page",
    "overloaded",
    "refusal_of_create",
    "refusal_of_poll",
    "wrong_key",
]

# Refusals in the provider's own envelope: status, type, code and message. Which code comes with 408, 409 and 422, and
# which type and code with the lack of flex capacity (the guide names only its words), is not known.
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
_REASONS = {502: "Bad Gateway"}
_GATEWAY_WORDS = {
    503: "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
}


def refusal_of_create(fault: str, *, retry_after: str | None, hang_up: HangUp) -> Denied:
    """The reply to a create that one of the settings' refusals strikes."""
    if fault in _ERRORS:
        status, kind, code, message = _ERRORS[fault]
        return refuse(status, message, type=kind, code=code, kind=fault)
    match fault:
        case "rate_limited":
            return _rate_limited(fault, retry_after)
        case "bad_gateway_before":
            return Denied(fault, gateway_error(502))
        case "html_502":
            return Denied(fault, html_page(502))
        case "queue_full":
            body = b'{"detail":"Background worker queue is full. Please try again later."}'
            return Denied(fault, Response(body, 400, media_type="application/json"))
        case "conversation_locked":
            return conversation_locked()
        case "drop_before":
            return Denied(fault, Dropped(hang_up))
        case _:
            raise ValueError(f"no refusal is called {fault!r}")


def refusal_of_poll(fault: str, *, not_found: Denied, retry_after: str | None, hang_up: HangUp) -> Denied:
    """The reply to a look that one of the settings' faults of polls strikes."""
    match fault:
        case "poll_500":
            status, kind, code, message = _ERRORS["server_error"]
            return refuse(status, message, type=kind, code=code, kind=fault)
        case "poll_429":
            return _rate_limited(fault, retry_after)
        case "poll_404":
            return Denied(fault, not_found.response)
        case "poll_drop":
            return Denied(fault, Dropped(hang_up))
        case "poll_html":
            return Denied(fault, html_page(200))
        case "poll_hang":
            return Denied(fault, Silence())
        case _:
            raise ValueError(f"no fault of polls is called {fault!r}")


def overloaded() -> Denied:
    """503, as during a wave of load."""
    status, kind, code, message = _ERRORS["overloaded"]
    return refuse(status, message, type=kind, code=code, kind="overloaded")


def conversation_locked() -> Denied:
    """400 while another response writes to the conversation."""
    message = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return bad_request(message, code="conversation_locked", param="conversation")


def wrong_key(message: str) -> Denied:
    """401; the message never repeats the key."""
    return refuse(401, message, type="invalid_request_error", code="invalid_api_key")


def gateway_error(status: int) -> Response:
    """What a gateway says in its own words, as plain text."""
    words = _GATEWAY_WORDS.get(status, f"error code: {status}")
    return Response(words, status, media_type="text/plain")


def html_page(status: int) -> Response:
    """A page for people where a program expects JSON."""
    title = f"{status} {_REASONS[status]}" if status in _REASONS else "Welcome"
    page = (
        f"<!DOCTYPE html><html><head><title>{title}</title></head>"
        f"<body><center><h1>{title}</h1></center><hr><center>gateway</center></body></html>"
    )
    return Response(page, status, media_type="text/html")


def _rate_limited(kind: str, retry_after: str | None) -> Denied:
    message = "Rate limit reached on requests per min (RPM). Please try again later."
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return refuse(429, message, type="requests", code="rate_limit_exceeded", headers=headers, kind=kind)
