"""Replies that go wrong on the wire: none at all, a broken connection, half a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["CutOff", "Dropped", "HangUp", "Silence", "cannot_hang_up"]

# Closes the connection that a call came over, at once and without a reply.
HangUp: TypeAlias = Callable[[Scope], None]


def cannot_hang_up(_scope: Scope) -> None:
    """What stands for closing the connection where there is none, as in an in-process client."""
    raise ConnectionResetError("the sandbox closed the connection")


class Silence(Response):
    """No reply, until the client gives up."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Dropped(Silence):
    """The connection is closed in place of a reply."""

    def __init__(self, hang_up: HangUp) -> None:
        super().__init__()
        self._hang_up = hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._hang_up(scope)
        await super().__call__(scope, receive, send)


class CutOff(Response):
    """A good reply whose body breaks off after ``arrives`` bytes, and the connection with it."""

    def __init__(self, body: bytes, hang_up: HangUp, *, arrives: int) -> None:
        super().__init__(body, media_type="application/json")
        self._arrives = arrives
        self._dropped = Dropped(hang_up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: self._arrives], "more_body": True})
        await self._dropped(scope, receive, send)
