"""The calls under ``/v1/webhook_endpoints``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of, parse_object
from orchestrator.sandbox.simulation.event_endpoints import WebhookEndpoints

__all__ = ["WebhookCalls"]


class WebhookCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which is not used here."""

    def __init__(self, endpoints: WebhookEndpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/webhook_endpoints: make an endpoint; only this reply has its secret."""
        return json_reply(self._endpoints.create(parse_object(await request.body()), self._clock.now()))

    async def list_endpoints(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/webhook_endpoints: in pages, newest first."""
        return json_reply(page_of(self._endpoints.all(), request.query_params))

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/webhook_endpoints/{endpoint_id}: one endpoint."""
        return json_reply(self._endpoints.one(_id(request)))

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/webhook_endpoints/{endpoint_id}: remove an endpoint."""
        return json_reply(self._endpoints.delete(_id(request)))

    async def test(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/webhook_endpoints/{endpoint_id}/test: send an event of a type to it."""
        self._endpoints.test(_id(request), parse_object(await request.body()).get("event_type"))
        return json_reply({})


def _id(request: Request) -> str:
    return str(request.path_params["endpoint_id"])
