"""The calls under ``/v1/models``."""

from __future__ import annotations

from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.policy.pricing.rates import strip_date
from orchestrator.policy.shutdowns import ANNOUNCED
from orchestrator.sandbox.endpoints.json_replies import json_reply
from orchestrator.sandbox.simulation.models import Catalogue

__all__ = ["ModelCalls"]

Json: TypeAlias = Any


class ModelCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which is not used here."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def list_models(self, _request: Request, _ordinal: int) -> Response:
        """GET /v1/models: the known models."""
        return json_reply({"object": "list", "data": [_shown(name) for name in self._catalogue.names()]})

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/models/{model}: one of them."""
        return json_reply(_shown(self._catalogue.get(request.path_params["model"]).name))


def _shown(name: str) -> dict[str, Json]:
    until = ANNOUNCED.get(strip_date(name))
    shown = {"id": name, "object": "model", "created": 0, "owned_by": "sandbox"}
    return {**shown, "shutdown_date": until and until.isoformat()}
