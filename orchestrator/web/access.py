"""Who may read the pages, and who may write: checked before any page is made.

The printed address has a token, which the first call exchanges for a cookie. The ``Host`` is checked always, so that
no name of another site can be pointed to this one. A write needs a form of the view's own as well.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["COOKIE", "HEADERS", "ViewAccess", "is_loopback_host"]

COOKIE = "orchestrator_view"
TOKEN_FIELD = "token"  # noqa: S105  # the name of the field
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


class ViewAccess:
    """An ASGI middleware around all pages; ``hosts`` are names beside those of this machine."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str], may_write: bool) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._may_write = may_write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal, begun = self._refusal(scope), False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if not (name == "cache-control" and name in headers):
                        headers[name] = value
            await send(message)

        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except Exception:
            # One page that fails ends no other; its texts are in no log.
            if os.environ.get("ORCHESTRATOR_DEBUG"):
                raise
            if not begun:
                message = "this page failed, which is our bug; ORCHESTRATOR_DEBUG=1 prints why\n"
                await PlainTextResponse(message, status_code=500)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """The reply to a call that reaches no page; None for one that may."""
        headers = Headers(scope=scope)
        if not self._is_known(headers.get("host", "")):
            return PlainTextResponse("this address is not served here\n", status_code=400)
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)).get(TOKEN_FIELD)
        if given is not None and scope["method"] == "GET" and self._fits(given):
            return self._welcome(scope)
        if not self._fits(cookie_parser(headers.get("cookie", "")).get(COOKIE, "")):
            message = "open the address that `orchestrator view` printed: it has a token, which this call lacks\n"
            return PlainTextResponse(message, status_code=403)
        if scope["method"] not in ("GET", "HEAD") and not self._may_post(scope, headers):
            return PlainTextResponse("this page only reads, or the form is not its own\n", status_code=403)
        return None

    def _is_known(self, host: str) -> bool:
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0].lower()
        return is_loopback_host(name) or name in self._hosts

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _may_post(self, scope: Scope, headers: Headers) -> bool:
        """Whether a call may write: a browser says from which site its form comes, and no site can change that.

        A page without referrer has ``null`` as the origin of its forms; then only ``Sec-Fetch-Site`` says it.
        """
        origin, site = headers.get("origin", ""), headers.get("sec-fetch-site")
        is_own = site == "same-origin" if origin == "null" else urlsplit(origin).netloc == headers.get("host")
        return (
            self._may_write
            and scope["method"] == "POST"
            and bool(origin)
            and is_own
            and site in (None, "same-origin")
        )

    def _welcome(self, scope: Scope) -> Response:
        """Exchange the token for a cookie, and continue without it in the address."""
        fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = urlencode([(name, value) for name, value in fields if name != TOKEN_FIELD])
        # A path with two slashes at its beginning would be another site.
        path = "/" + scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/")
        reply = RedirectResponse(path + (f"?{query}" if query else ""), status_code=303)
        reply.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", path="/")
        return reply


def is_loopback_host(name: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
