"""Replies that break on the way to the client: none at all, a broken connection, half a body, a gateway's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.sandbox.faults.damaged_bodies import damaged_after_id, no_response

__all__ = ["Dropped", "HangUp", "Silence", "cannot_hang_up", "gateway_error", "html_page", "lost_reply"]

# Closes the connection of a call at once and without a reply.
HangUp: TypeAlias = Callable[[Scope], None]

_REASONS = {502: "Bad Gateway"}
_GATEWAY_TEXTS = {
    503: "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
}


def cannot_hang_up(_scope: Scope) -> None:
    """Stands in for closing the connection if there is none, as with an in-process client."""
    raise ConnectionResetError("the sandbox closed the connection")


class Silence(Response):
    """No reply, until the client gives up."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Dropped(Silence):
    """Closes the connection instead of replying."""

    def __init__(self, hang_up: HangUp) -> None:
        super().__init__()
        self._hang_up = hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._hang_up(scope)
        await super().__call__(scope, receive, send)


class CutOff(Response):
    """A good reply whose connection breaks after ``sent_bytes`` of the body."""

    def __init__(self, body: bytes, hang_up: HangUp, *, sent_bytes: int) -> None:
        super().__init__(body, media_type="application/json")
        self._sent_bytes = sent_bytes
        self._dropped = Dropped(hang_up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: self._sent_bytes], "more_body": True})
        await self._dropped(scope, receive, send)


def lost_reply(fault: str, body: bytes, hang_up: HangUp) -> Response:
    """What arrives of the reply to a create, whose ``body`` one of the settings' faults of delivery strikes."""
    match fault:
        case "bad_gateway_after":
            return gateway_error(502)
        case "gateway_timeout":
            return gateway_error(504)
        case "gateway_reset":
            return gateway_error(503)
        case "drop_after":
            return Dropped(hang_up)
        case "drop_mid_body":
            return CutOff(body, hang_up, sent_bytes=len(body) // 2)
        case "truncated_body":
            return Response(body[: len(body) // 2], media_type="application/json")
        case "html_200":
            return html_page(200)
        case "hang":
            return Silence()
        case "unreadable_200":
            return Response(no_response(), media_type="application/json")
        case "broken_200":
            return Response(damaged_after_id(body), media_type="application/json")
        case _:
            raise ValueError(f"no fault of delivery is called {fault!r}")


def gateway_error(status: int) -> Response:
    """The plain text of a gateway, which does not know the provider's errors."""
    return Response(_GATEWAY_TEXTS.get(status, f"error code: {status}"), status, media_type="text/plain")


def html_page(status: int) -> Response:
    """An HTML page where a program expects JSON."""
    title = f"{status} {_REASONS[status]}" if status in _REASONS else "Welcome"
    page = (
        f"<!DOCTYPE html><html><head><title>{title}</title></head>"
        f"<body><center><h1>{title}</h1></center><hr><center>gateway</center></body></html>"
    )
    return Response(page, status, media_type="text/html")
