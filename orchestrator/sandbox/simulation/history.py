"""What a request continues from: the responses before it or a conversation, and the prompt that results."""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import takewhile
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.sandbox_settings import Faults
from orchestrator.sandbox.simulation.attachments import attached_texts
from orchestrator.sandbox.simulation.creation import conversation_of
from orchestrator.sandbox.simulation.prompts import Prompt, read_prompt
from orchestrator.sandbox.storage.conversation_store import ConversationStore
from orchestrator.sandbox.storage.input_items import list_items
from orchestrator.sandbox.storage.response_record import ResponseRecord, is_known
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["History"]

Json: TypeAlias = Any

# The ids of a response's items begin like its own, for this many characters.
_SHARED_LENGTH = 38


class History:
    """Reads what was said before a request; every call takes the current time."""

    def __init__(
        self, state: SandboxDatabase, responses: ResponseStore, conversations: ConversationStore, faults: Faults
    ) -> None:
        self._state = state
        self._responses = responses
        self._conversations = conversations
        self._faults = faults

    def read(self, fields: Mapping[str, Json], now: float) -> Prompt:
        """The prompt of a request, with the items of its conversation or of the responses before it."""
        conversation_id = conversation_of(fields)
        if conversation_id is not None:
            earlier = self._conversations.items(conversation_id, now)
        else:
            earlier = self._items_until(fields.get("previous_response_id"))
        return read_prompt(fields, earlier, attached=lambda item: attached_texts(item, self._state, now))

    def resolved(self, fields: dict[str, Json], now: float) -> dict[str, Json]:
        """The request with item references replaced by the items; raises ``ErrorReply`` (404) for unknown ones."""
        items = fields.get("input")
        if not isinstance(items, list) or not any(item.get("type") == "item_reference" for item in items):
            return fields
        found = [self._item(item["id"], now) if item.get("type") == "item_reference" else item for item in items]
        return {**fields, "input": found}

    def input_items(self, record: ResponseRecord) -> list[dict[str, Json]]:
        """What a response was made from: the items of those before it, and its own input; no instructions."""
        if record.conversation_id is None:
            return [*self._items_until(record.previous_id), *self._input_of(record)]
        own = self._input_of(record)
        return [*self._said_before(record, {item["id"] for item in own}), *own]

    def _said_before(self, record: ResponseRecord, own: Container[str]) -> list[dict[str, Json]]:
        """The items of a response's conversation before its own; none if the conversation is deleted."""
        try:
            items = self._conversations.items(str(record.conversation_id), record.created_at)
        except ErrorReply:
            return []
        return list(takewhile(lambda item: item["id"] not in own, items))

    def find_response(self, response_id: str, now: float) -> ResponseRecord | None:
        """The response of that id, if a client can find it."""
        record = self._responses.get(response_id)
        return record if record is not None and self._is_known(record, now) else None

    def check_free(self, conversation_id: str, now: float) -> None:
        """Raises ``ErrorReply`` (``conversation_locked``) while a response is writing to the conversation."""
        self._conversations.check_free(conversation_id, now)

    def _is_known(self, record: ResponseRecord, now: float) -> bool:
        faults = self._faults
        return is_known(record, now, young_s=faults.young_404_s, vanish_s=faults.vanish_after_s)

    def _item(self, item_id: str, now: float) -> dict[str, Json]:
        item = self._conversations.find_item(item_id) or self._response_item(item_id, now)
        if item is None:
            message = f"Item with id '{item_id}' not found."
            raise error_reply(404, message, type="invalid_request_error", code=None, param="input", kind="not_found")
        return item

    def _response_item(self, item_id: str, now: float) -> dict[str, Json] | None:
        record = self._responses.find_by_prefix(f"resp_{item_id.partition('_')[2][:_SHARED_LENGTH]}")
        if record is None or not self._is_known(record, now):
            return None
        return next((item for item in self._items_of(record) if item["id"] == item_id), None)

    def _items_until(self, response_id: str | None) -> list[dict[str, Json]]:
        """Input and output of a response and of those before it, oldest first, back to the first deleted one."""
        turns: list[list[dict[str, Json]]] = []
        while response_id is not None:
            record = self._responses.get(response_id)
            if record is None or record.deleted_at:
                break
            turns.append(self._items_of(record))
            response_id = record.previous_id
        return [item for turn in reversed(turns) for item in turn]

    def _items_of(self, record: ResponseRecord) -> list[dict[str, Json]]:
        return [*self._input_of(record), *orjson.loads(record.output)]

    def _input_of(self, record: ResponseRecord) -> list[dict[str, Json]]:
        return list_items(orjson.loads(self._responses.input_of(record.id)), record.id)
