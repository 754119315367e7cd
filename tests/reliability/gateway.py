"""A gateway between client and provider that records every call and answers some of them itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.core.clock import Clock
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.asgi_app import create_app
from orchestrator.sandbox.server.socket_listener import SocketListener
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["Call", "Gateway", "Script", "error", "running_gateway"]


@dataclass(kw_only=True)
class Call:
    """One call of a client; ``ordinal`` counts calls of its kind from 1. Times are the clock's.

    ``since_first_s`` is the time since the first call of all.
    """

    kind: str
    ordinal: int
    path: str
    headers: dict[str, str]
    fields: dict[str, Any]
    at: float
    since_first_s: float
    # The key of its row, if the create was marked with it.
    key: str | None = None
    status: int | None = None

    @property
    def response_id(self) -> str:
        """The response of a poll or a cancel."""
        return self.path.split("/")[3]


_RESPONSE_ID = re.compile(rb"resp_[0-9a-f]+")

# What the gateway answers instead of the sandbox; None to forward the call.
Script: TypeAlias = Callable[[Call], Response | None]


def error(status: int, code: str | None = None, message: str = "No.", **headers: str) -> Response:
    """Returns an error in the provider's envelope."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


class Gateway:
    """An ASGI app around the sandbox's."""

    def __init__(self, app: ASGIApp, clock: Clock, script: Script) -> None:
        self._app = app
        self._clock = clock
        self._script = script
        self._counts = Counter[str]()
        self._keys: dict[str, str] = {}
        self.calls: list[Call] = []

    def of(self, kind: str) -> list[Call]:
        """The calls of a kind (create, poll, cancel), in order."""
        return [call for call in self.calls if call.kind == kind]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/v1/responses"):
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        call = self._note(scope, body)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            elif call.kind == "create" and call.key and (found := _RESPONSE_ID.search(message.get("body", b""))):
                self._keys[found[0].decode()] = call.key
            await send(message)

        reply = self._script(call)
        await (reply or self._app)(scope, _once(body, receive), answer)

    def _note(self, scope: Scope, body: bytes) -> Call:
        path: str = scope["path"]
        kind = "cancel" if path.endswith("/cancel") else "poll" if scope["method"] == "GET" else "create"
        self._counts[kind] += 1
        now = self._clock.now()
        call = Call(
            kind=kind,
            ordinal=self._counts[kind],
            path=path,
            headers={name.decode(): value.decode() for name, value in scope["headers"]},
            fields=json.loads(body) if body else {},
            at=now,
            since_first_s=now - self.calls[0].at if self.calls else 0.0,
        )
        if kind == "create":
            call.key = (call.fields.get("metadata") or {}).get("orchestrator_key")
        else:
            call.key = self._keys.get(call.response_id)
        self.calls.append(call)
        return call


def _once(body: bytes, receive: Receive) -> Receive:
    """Yields the body that was read already, then the rest."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


@asynccontextmanager
async def running_gateway(
    settings: SandboxSettings, clock: Clock, script: Script
) -> AsyncIterator[tuple[str, Gateway]]:
    """A sandbox behind a gateway, by its base URL."""
    listener = SocketListener("127.0.0.1", 0)
    with SandboxDatabase() as state:
        gateway = Gateway(create_app(settings, state, clock=clock, hang_up=listener.hang_up), clock, script)
        await listener.open(gateway)
        try:
            yield listener.base_url, gateway
        finally:
            with anyio.CancelScope(shield=True):
                await listener.close()
