"""The rehearsal provider as an ASGI app: the Responses API's paths, and a ledger of what was asked.

``POST /v1/responses`` and what belongs to it follow the API reference; ``GET /_ledger`` and
``GET /_ledger/responses`` (JSON lines) need no key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from secrets import compare_digest, token_hex
from time import perf_counter
from typing import TypeAlias

import anyio
import anyio.to_thread
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from orchestrator.core.clock import Clock, SystemClock
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.endpoints.batches import BatchCalls
from orchestrator.sandbox.endpoints.conversations import ConversationCalls
from orchestrator.sandbox.endpoints.files import FileCalls
from orchestrator.sandbox.endpoints.organization import OrganizationCalls
from orchestrator.sandbox.endpoints.replies import json_reply
from orchestrator.sandbox.endpoints.responses import Operations
from orchestrator.sandbox.faults.api_errors import Denied, refuse
from orchestrator.sandbox.faults.broken_replies import HangUp, cannot_hang_up
from orchestrator.sandbox.faults.refused_calls import overloaded, wrong_key
from orchestrator.sandbox.server.sandbox_settings import OutageKind, SandboxSettings
from orchestrator.sandbox.storage.conversation_store import Conversations
from orchestrator.sandbox.storage.ledger import Ledger, entry_of
from orchestrator.sandbox.storage.response_store import Archive
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.conversation_state import Turns

__all__ = ["call_table", "create_app"]

Handler: TypeAlias = Callable[[Request, int], Awaitable[Response]]

_HEADERS = {"openai-version": "2020-10-01", "openai-organization": "org-sandbox", "x-sandbox": "simulated"}


def create_app(
    settings: SandboxSettings, state: SandboxDatabase, *, clock: Clock | None = None, hang_up: HangUp = cannot_hang_up
) -> Starlette:
    """The sandbox as an ASGI app; ``hang_up`` closes the connection of a call, for the faults that need it."""
    front = _Front(settings, state, clock or SystemClock(), hang_up)
    return Starlette(routes=front.routes(), exception_handlers={HTTPException: _no_such_path})


def call_table() -> list[tuple[str, str]]:
    """Every call as (method and path, what it does), for the documentation."""
    with SandboxDatabase() as state:
        routes = create_app(SandboxSettings(), state).routes
    told = [str(route.endpoint.__doc__).partition(": ") for route in routes if isinstance(route, Route)]
    return [(call, about) for call, _, about in told]


class _Front:
    """What surrounds every call: the key, outages, counting, the usual headers; and the ledger."""

    def __init__(self, settings: SandboxSettings, state: SandboxDatabase, clock: Clock, hang_up: HangUp) -> None:
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._outages = [each for each in settings.faults.outages if each.kind is OutageKind.OVERLOADED]
        self._state = state
        self._clock = clock
        self._started_at = clock.now()
        self._archive = Archive(state, keep_bodies=settings.keep_bodies)
        conversations = Conversations(state, self._archive)
        self._files = FileCalls(state, clock)
        self._conversations = ConversationCalls(conversations, state, clock)
        turns = Turns(state, self._archive, conversations, settings.faults)
        self._operations = Operations(
            settings, state=state, archive=self._archive, turns=turns, clock=clock, hang_up=hang_up
        )
        self._batches = BatchCalls(settings, state=state, archive=self._archive, turns=turns, clock=clock)
        self._prices = PriceBook()
        self._organization = OrganizationCalls(self._archive, clock, self._prices)

    def routes(self) -> list[Route]:
        do, one = self._operations, "/v1/responses/{response_id}"
        return [
            Route("/v1/responses", self._counted("create", do.create), methods=["POST"]),
            Route("/v1/responses/input_tokens", self._counted("other", do.count_tokens), methods=["POST"]),
            Route("/v1/responses/compact", self._counted("other", do.compact), methods=["POST"]),
            Route(one, self._counted("poll", do.poll), methods=["GET"]),
            Route(one, self._counted("delete", do.delete), methods=["DELETE"]),
            Route(f"{one}/cancel", self._counted("cancel", do.cancel), methods=["POST"]),
            Route(f"{one}/input_items", self._counted("other", do.input_items), methods=["GET"]),
            *self._conversation_routes(),
            *self._file_routes(),
            *self._batch_routes(),
            Route("/v1/models", self._counted("other", do.models), methods=["GET"]),
            Route("/v1/models/{model}", self._counted("other", do.model), methods=["GET"]),
            Route("/v1/organization/costs", self._counted("other", self._organization.costs), methods=["GET"]),
            Route(
                "/v1/organization/usage/completions",
                self._counted("other", self._organization.usage),
                methods=["GET"],
            ),
            Route("/_ledger", self._ledger, methods=["GET"]),
            Route("/_ledger/responses", self._ledger_responses, methods=["GET"]),
        ]

    def _conversation_routes(self) -> list[Route]:
        do, one = self._conversations, "/v1/conversations/{conversation_id}"
        items, item = f"{one}/items", f"{one}/items/{{item_id}}"
        return [
            Route("/v1/conversations", self._counted("other", do.create), methods=["POST"]),
            Route(one, self._counted("other", do.retrieve), methods=["GET"]),
            Route(one, self._counted("other", do.update), methods=["POST"]),
            Route(one, self._counted("other", do.delete), methods=["DELETE"]),
            Route(items, self._counted("other", do.items), methods=["GET"]),
            Route(items, self._counted("other", do.add_items), methods=["POST"]),
            Route(item, self._counted("other", do.item), methods=["GET"]),
            Route(item, self._counted("other", do.remove_item), methods=["DELETE"]),
        ]

    def _file_routes(self) -> list[Route]:
        do, one = self._files, "/v1/files/{file_id}"
        return [
            Route("/v1/files", self._counted("other", do.create), methods=["POST"]),
            Route("/v1/files", self._counted("other", do.list_files), methods=["GET"]),
            Route(one, self._counted("other", do.retrieve), methods=["GET"]),
            Route(one, self._counted("other", do.delete), methods=["DELETE"]),
            Route(f"{one}/content", self._counted("other", do.content), methods=["GET"]),
        ]

    def _batch_routes(self) -> list[Route]:
        do, one = self._batches, "/v1/batches/{batch_id}"
        return [
            Route("/v1/batches", self._counted("batch", do.create), methods=["POST"]),
            Route("/v1/batches", self._counted("other", do.list_batches), methods=["GET"]),
            Route(one, self._counted("other", do.retrieve), methods=["GET"]),
            Route(f"{one}/cancel", self._counted("other", do.cancel), methods=["POST"]),
        ]

    def _counted(self, group: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler with all that surrounds it; ``group`` is what the ledger counts it as."""

        async def endpoint(request: Request) -> Response:
            began = perf_counter()
            ordinal = self._state.count(f"{group}.calls")
            try:
                self._let_in(request)
                reply = await handler(request, ordinal)
            except Denied as denied:
                self._state.count(f"{group}.refused.{denied.kind}")
                reply = denied.response
            await self._operations.reply_delay(group, ordinal)
            reply.headers.update(_HEADERS)
            reply.headers["x-request-id"] = f"req_{token_hex(16)}"
            reply.headers["openai-processing-ms"] = str(round((perf_counter() - began) * 1000))
            return reply

        endpoint.__doc__ = handler.__doc__
        return endpoint

    def _let_in(self, request: Request) -> None:
        since_start = self._clock.now() - self._started_at
        if any(outage.from_s <= since_start < outage.to_s for outage in self._outages):
            raise overloaded()
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = request.headers.get("api-key", "")
        if not key:
            raise wrong_key("You didn't provide an API key.")
        if key.startswith("sk-bad") or (
            self._key is not None and not compare_digest(key.encode(), self._key.encode())
        ):
            raise wrong_key("Incorrect API key provided.")

    async def _ledger(self, _request: Request) -> Response:
        """GET /_ledger: what was asked, what was done, and what that cost, as sums; needs no key."""
        # The published prices take half a second to load, which must not hold up the calls of others.
        await anyio.to_thread.run_sync(self._prices.load)
        ledger, now = Ledger(), self._clock.now()
        async for record in self._archive.records():
            ledger.add(entry_of(record, now, self._prices))
        return json_reply(ledger.summary(self._state.counts))

    async def _ledger_responses(self, _request: Request) -> Response:
        """GET /_ledger/responses: the same, a line of JSON for each response; needs no key."""
        await anyio.to_thread.run_sync(self._prices.load)
        now = self._clock.now()

        async def lines() -> AsyncIterator[bytes]:
            async for record in self._archive.records():
                yield orjson.dumps(asdict(entry_of(record, now, self._prices)), option=orjson.OPT_APPEND_NEWLINE)

        return StreamingResponse(lines(), media_type="application/jsonl")


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({request.method} {request.url.path})"
    return refuse(status, message, type="invalid_request_error", code=None).response
