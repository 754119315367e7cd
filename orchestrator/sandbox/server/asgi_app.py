"""The sandbox as an ASGI app: its routes, and what surrounds every call.

``POST /v1/responses`` and the related calls follow the API reference; ``GET /_ledger`` and
``GET /_ledger/responses`` (JSON lines) need no key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import compare_digest, token_hex
from time import perf_counter
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.core.clock import Clock, SystemClock
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.endpoints.batch_calls import BatchCalls
from orchestrator.sandbox.endpoints.call_context import CallContext
from orchestrator.sandbox.endpoints.conversation_calls import ConversationCalls
from orchestrator.sandbox.endpoints.file_calls import FileCalls
from orchestrator.sandbox.endpoints.ledger_calls import LedgerCalls
from orchestrator.sandbox.endpoints.model_calls import ModelCalls
from orchestrator.sandbox.endpoints.organization_calls import OrganizationCalls
from orchestrator.sandbox.endpoints.response_calls import ResponseCalls
from orchestrator.sandbox.endpoints.webhook_calls import WebhookCalls
from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.faults.broken_replies import HangUp, cannot_hang_up
from orchestrator.sandbox.faults.fault_plan import FaultPlan
from orchestrator.sandbox.faults.refused_calls import overloaded
from orchestrator.sandbox.faults.server_kinds import ImitatedServer
from orchestrator.sandbox.sandbox_settings import OutageKind, SandboxSettings
from orchestrator.sandbox.server.loopback_hosts import LoopbackHosts
from orchestrator.sandbox.simulation.event_endpoints import WebhookEndpoints
from orchestrator.sandbox.simulation.history import History
from orchestrator.sandbox.simulation.models import Catalogue
from orchestrator.sandbox.storage.conversation_store import ConversationStore
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["call_table", "create_app"]

Handler: TypeAlias = Callable[[Request, int], Awaitable[Response]]

_HEADERS = {"openai-version": "2020-10-01", "openai-organization": "org-sandbox", "x-sandbox": "simulated"}


def create_app(
    settings: SandboxSettings,
    state: SandboxDatabase,
    *,
    clock: Clock | None = None,
    hang_up: HangUp = cannot_hang_up,
    any_host: bool = False,
    webhooks: WebhookEndpoints | None = None,
) -> Starlette:
    """The sandbox as an ASGI app; ``hang_up`` closes the connection of a call, for the faults that need it.

    Without ``any_host``, only calls to a loopback name are answered: a web page that a browser shows on this machine
    could otherwise read prompts under a name of its own (DNS rebinding).
    """
    responses = ResponseStore(state, keep_bodies=settings.keep_bodies)
    conversations = ConversationStore(state, responses)
    context = CallContext(
        settings=settings,
        state=state,
        responses=responses,
        history=History(state, responses, conversations, settings.faults),
        fault_plan=FaultPlan(settings),
        catalogue=Catalogue(settings.models),
        clock=clock or SystemClock(),
        webhooks=webhooks or WebhookEndpoints(None),
    )
    router = _Router(context, conversations, hang_up)
    middleware = [] if any_host else [Middleware(LoopbackHosts)]
    return Starlette(routes=router.routes(), middleware=middleware, exception_handlers={HTTPException: _no_such_path})


def call_table() -> list[tuple[str, str]]:
    """Every call as (method and path, what it does), for the documentation."""
    with SandboxDatabase() as state:
        routes = create_app(SandboxSettings(), state).routes
    docstrings = [str(route.endpoint.__doc__).partition(": ") for route in routes if isinstance(route, Route)]
    return [(call, about) for call, _, about in docstrings]


class _Router:
    """The routes, and what surrounds every call: the key, outages, counting, the usual headers."""

    def __init__(self, context: CallContext, conversations: ConversationStore, hang_up: HangUp) -> None:
        settings, state, clock = context.settings, context.state, context.clock
        prices = PriceBook()
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._outages = [each for each in settings.faults.outages if each.kind is OutageKind.OVERLOADED]
        self._fault_plan = context.fault_plan
        self._state = state
        self._clock = clock
        self._started_at = clock.now()
        self._like = ImitatedServer(settings.like, self._started_at)
        self._responses = ResponseCalls(context, hang_up)
        self._conversations = ConversationCalls(conversations, state, clock)
        self._webhooks = WebhookCalls(context.webhooks, clock)
        self._files = FileCalls(context)
        self._batches = BatchCalls(context)
        self._models = ModelCalls(context.catalogue)
        self._organization = OrganizationCalls(context.responses, clock, prices)
        self._ledger = LedgerCalls(state, context.responses, clock, prices)

    def routes(self) -> list[Route]:
        """All routes, in the order of the documentation."""
        return [
            *self._response_routes(),
            *self._conversation_routes(),
            *self._file_routes(),
            *self._batch_routes(),
            *self._webhook_routes(),
            *self._account_routes(),
        ]

    def _response_routes(self) -> list[Route]:
        do, one = self._responses, "/v1/responses/{response_id}"
        return [
            Route("/v1/responses", self._counted("create", do.create), methods=["POST"]),
            Route("/v1/responses/input_tokens", self._counted("other", do.count_tokens), methods=["POST"]),
            Route("/v1/responses/compact", self._counted("other", do.compact), methods=["POST"]),
            Route(one, self._counted("poll", do.poll), methods=["GET"]),
            Route(one, self._counted("delete", do.delete), methods=["DELETE"]),
            Route(f"{one}/cancel", self._counted("cancel", do.cancel), methods=["POST"]),
            Route(f"{one}/input_items", self._counted("other", do.input_items), methods=["GET"]),
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

    def _webhook_routes(self) -> list[Route]:
        do, one = self._webhooks, "/v1/webhook_endpoints/{endpoint_id}"
        return [
            Route("/v1/webhook_endpoints", self._counted("other", do.create), methods=["POST"]),
            Route("/v1/webhook_endpoints", self._counted("other", do.list_endpoints), methods=["GET"]),
            Route(one, self._counted("other", do.retrieve), methods=["GET"]),
            Route(one, self._counted("other", do.delete), methods=["DELETE"]),
            Route(f"{one}/test", self._counted("other", do.test), methods=["POST"]),
        ]

    def _account_routes(self) -> list[Route]:
        costs, usage = self._organization.costs, self._organization.usage
        return [
            Route("/v1/models", self._counted("other", self._models.list_models), methods=["GET"]),
            Route("/v1/models/{model}", self._counted("other", self._models.retrieve), methods=["GET"]),
            Route("/v1/organization/costs", self._counted("other", costs), methods=["GET"]),
            Route("/v1/organization/usage/completions", self._counted("other", usage), methods=["GET"]),
            Route("/_ledger", self._ledger.summary, methods=["GET"]),
            Route("/_ledger/responses", self._ledger.entries, methods=["GET"]),
        ]

    def _counted(self, group: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler with all that surrounds it; ``group`` is what the ledger counts it as."""

        async def endpoint(request: Request) -> Response:
            started = perf_counter()
            ordinal = self._state.count(f"{group}.calls")
            try:
                self._check_access(request)
                reply = await handler(request, ordinal)
            except ErrorReply as error:
                self._state.count(f"{group}.refused.{error.kind}")
                reply = error.response
            if delay_s := self._fault_plan.reply_s(group, ordinal):
                await self._clock.sleep_until(self._clock.now() + delay_s)
            reply.headers.update(_HEADERS)
            reply.headers["x-request-id"] = f"req_{token_hex(16)}"
            reply.headers["openai-processing-ms"] = str(round((perf_counter() - started) * 1000))
            return reply

        endpoint.__doc__ = handler.__doc__
        return endpoint

    def _check_access(self, request: Request) -> None:
        """Raises ``ErrorReply`` during an outage, and for a wrong key."""
        since_start = self._clock.now() - self._started_at
        if any(outage.from_s <= since_start < outage.to_s for outage in self._outages):
            raise overloaded()
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = request.headers.get("api-key", "")
        if not key:
            raise self._like.wrong_key("You didn't provide an API key.")
        if key.startswith("sk-bad") or (
            self._key is not None and not compare_digest(key.encode(), self._key.encode())
        ):
            raise self._like.wrong_key("Incorrect API key provided.")


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({request.method} {request.url.path})"
    return error_reply(status, message, type="invalid_request_error", code=None).response
