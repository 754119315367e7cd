"""Imitates how some servers of one's own differ from the API, as they were seen."""

from __future__ import annotations

import heapq
from uuid import uuid4

import orjson
from starlette.responses import Response

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply, not_found
from orchestrator.sandbox.faults.refused_calls import wrong_key
from orchestrator.sandbox.sandbox_settings import ServerKind

__all__ = ["ImitatedServer"]

# OGX runs ten responses and queues a hundred.
_OGX_PLACES = 110


class ImitatedServer:
    """One kind of server; without a kind, it is the API itself."""

    def __init__(self, kind: ServerKind | None, started_at: float) -> None:
        self._kind = kind
        self._started_at = started_at
        # When the open responses end; what is cancelled keeps its place until then.
        self._ends: list[float] = []

    @property
    def ignores_background(self) -> bool:
        """Whether a create is answered when its response has ended, and no response is kept."""
        return self._kind is ServerKind.LLAMA_CPP

    def response_id(self) -> str | None:
        """Returns an id for a new response; None for an id as the API's."""
        return f"litellm_poll_{uuid4()}" if self._kind is ServerKind.LITELLM else None

    def refuse_create(self, now: float) -> None:
        """Raises ``ErrorReply`` if no place is free for another open response."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if self._kind is ServerKind.OGX and len(self._ends) >= _OGX_PLACES:
            body = b'{"detail":"Background worker queue is full (100). Please try again later."}'
            raise ErrorReply("queue_full", Response(body, 400, media_type="application/json"))

    def accepted(self, ends_at: float) -> None:
        """Record a new response."""
        if self._kind is ServerKind.OGX:
            heapq.heappush(self._ends, ends_at)

    def shown_at(self, now: float, *, created_at: float, ends_at: float) -> float:
        """Returns the time as of which a response is shown: what a restart of OGX interrupted stands still."""
        interrupted = created_at < self._started_at < ends_at
        return created_at if self._kind is ServerKind.OGX and interrupted else now

    def refuse_token_count(self) -> None:
        """Raises ``ErrorReply`` if the server does not count the tokens of a request."""
        if self._kind is ServerKind.OGX:
            raise error_reply(405, "Method Not Allowed", type="invalid_request_error", code=None)
        if self._kind is ServerKind.LLAMA_CPP:
            raise self.unknown("")

    def unknown(self, response_id: str) -> ErrorReply:
        """Returns the error for a response that is not known."""
        match self._kind:
            case ServerKind.LITELLM:
                body = orjson.dumps({"detail": f"Polling response {response_id} not found or expired"})
                return ErrorReply("not_found", Response(body, 404, media_type="application/json"))
            case ServerKind.LLAMA_CPP:
                return error_reply(404, "File Not Found", type="not_found_error", code=None, kind="not_found")
            case _:
                return not_found(response_id)

    def wrong_key(self, message: str) -> ErrorReply:
        """Returns the error for a wrong key: LiteLLM without a database does not say which."""
        if self._kind is not ServerKind.LITELLM:
            return wrong_key(message)
        text = "Authentication Error, No connected db."
        return error_reply(400, text, type="no_db_connection", code="400", kind="invalid_api_key")
