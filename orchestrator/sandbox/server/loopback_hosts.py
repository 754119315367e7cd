"""Refuses calls whose ``Host`` is no name of this machine, on every path of the sandbox."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.sandbox.faults.api_errors import error_reply

__all__ = ["LoopbackHosts", "is_loopback"]


class LoopbackHosts:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_loopback(_name(Headers(scope=scope).get("host", ""))):
            await self._app(scope, receive, send)
            return
        message = "The sandbox answers only calls to a name of this machine, such as localhost."
        reply = error_reply(421, message, type="invalid_request_error", code="wrong_host").response
        await reply(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
