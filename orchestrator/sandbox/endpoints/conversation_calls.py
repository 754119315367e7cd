"""The calls under ``/v1/conversations``."""

from __future__ import annotations

from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.clock import Clock
from orchestrator.sandbox.endpoints.json_replies import json_reply, page_of, parse_object
from orchestrator.sandbox.storage.conversation_store import ConversationStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.checks import check_conversation

__all__ = ["ConversationCalls"]

Json: TypeAlias = Any


class ConversationCalls:
    """Each call takes the request, and its ordinal among the calls of its kind, which is not used here."""

    def __init__(self, conversations: ConversationStore, state: SandboxDatabase, clock: Clock) -> None:
        self._conversations = conversations
        self._state = state
        self._clock = clock

    async def create(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/conversations: create one, with up to 20 items."""
        fields = await _read(request)
        created = self._conversations.create(
            fields.get("items") or [], fields.get("metadata") or {}, self._clock.now()
        )
        return await self._committed(created)

    async def retrieve(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/conversations/{conversation_id}: its metadata."""
        return json_reply(self._conversations.show(_id(request)))

    async def update(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/conversations/{conversation_id}: replace its metadata."""
        fields = await _read(request)
        return await self._committed(self._conversations.update(_id(request), fields.get("metadata") or {}))

    async def delete(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/conversations/{conversation_id}: delete it and its items; responses in it stay."""
        return await self._committed(self._conversations.delete(_id(request)))

    async def items(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/conversations/{conversation_id}/items: in pages, newest first unless ``order=asc``."""
        items = self._conversations.items(_id(request), self._clock.now())
        return await self._committed(page_of(items, request.query_params))

    async def add_items(self, request: Request, _ordinal: int) -> Response:
        """POST /v1/conversations/{conversation_id}/items: add up to 20."""
        fields = await _read(request)
        added = self._conversations.add(_id(request), fields.get("items") or [], self._clock.now())
        return await self._committed(page_of(added, {"order": "asc"}))

    async def item(self, request: Request, _ordinal: int) -> Response:
        """GET /v1/conversations/{conversation_id}/items/{item_id}: one item."""
        item_id = request.path_params["item_id"]
        return await self._committed(self._conversations.item(_id(request), item_id, self._clock.now()))

    async def remove_item(self, request: Request, _ordinal: int) -> Response:
        """DELETE /v1/conversations/{conversation_id}/items/{item_id}: remove one item."""
        item_id = request.path_params["item_id"]
        return await self._committed(self._conversations.remove(_id(request), item_id, self._clock.now()))

    async def _committed(self, value: Json) -> Response:
        await self._state.committed()
        return json_reply(value)


def _id(request: Request) -> str:
    return str(request.path_params["conversation_id"])


async def _read(request: Request) -> dict[str, Json]:
    fields = parse_object(await request.body() or b"{}")
    check_conversation(fields)
    return fields
