"""The faults that strike a call before anything is done with it, as the replies that a client gets."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.sandbox.denials import Denied, bad_request, refuse
from orchestrator.sandbox.wire import Dropped, HangUp, Silence

__all__ = ["gateway_error", "html_page", "overloaded", "refusal_of_create", "refusal_of_look", "wrong_key"]

_REASONS = {502: "Bad Gateway"}
_GATEWAY_WORDS = {
    503: "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
}


def refusal_of_create(fault: str, *, retry_after: str | None, hang_up: HangUp) -> Denied:
    """The reply to a create that one of the settings' refusals strikes."""
    match fault:
        case "rate_limited":
            return _rate_limited(fault, retry_after)
        case "slow_down":
            message = "The load rose too quickly. Slow down, and raise it again gradually."
            return refuse(429, message, type="rate_limit_error", code="slow_down", kind=fault)
        case "insufficient_quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return refuse(429, message, type="insufficient_quota", code="insufficient_quota", kind=fault)
        case "server_error":
            return _server_error(fault)
        case "overloaded":
            return overloaded()
        case "bad_gateway_before":
            return Denied(fault, gateway_error(502))
        case "html_502":
            return Denied(fault, html_page(502))
        case "queue_full":
            body = b'{"detail":"Background worker queue is full. Please try again later."}'
            return Denied(fault, Response(body, 400, media_type="application/json"))
        case "flex_unavailable":
            # Neither type nor code of this one is known; the guide only names it "Resource Unavailable".
            message = "Resource Unavailable: there is no flex capacity at the moment, and you were not charged."
            return refuse(429, message, type="rate_limit_error", code=None, kind=fault)
        case "conversation_locked":
            message = "Another process is currently operating on this conversation. Please retry in a few seconds."
            return bad_request(message, code="conversation_locked", param="conversation")
        case "drop_before":
            return Denied(fault, Dropped(hang_up))
        case _:
            raise ValueError(f"no refusal is called {fault!r}")


def refusal_of_look(fault: str, *, not_found: Denied, retry_after: str | None, hang_up: HangUp) -> Denied:
    """The reply to a look that one of the settings' faults of polls strikes."""
    match fault:
        case "poll_500":
            return _server_error(fault)
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
    message = "The server is currently overloaded. Please try again later."
    return refuse(503, message, type="service_unavailable_error", code="server_is_overloaded", kind="overloaded")


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


def _server_error(kind: str) -> Denied:
    message = "The server had an error while processing your request. Sorry about that!"
    return refuse(500, message, type="server_error", code="server_error", kind=kind)
