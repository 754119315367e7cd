"""What a request goes on from: the responses before it or a conversation, and what the model reads in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.faults.api_errors import bad_request, refuse
from orchestrator.sandbox.server.sandbox_settings import Faults
from orchestrator.sandbox.simulation.creation import conversation_of
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.prompts import Prompt, list_items, read_prompt
from orchestrator.sandbox.storage.conversation_store import Conversations
from orchestrator.sandbox.storage.response_record import Record, is_known, true_status
from orchestrator.sandbox.storage.response_store import Archive
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.attachments import attached_texts, check_files
from orchestrator.sandbox.validation.item_pairs import check_pairs

__all__ = ["Turns"]

Json: TypeAlias = Any

# The ends of a response that another can go on with.
_GOES_ON = ("completed", "incomplete")
# So many characters of a response's id are in those of its items.
_SHARED = 38


class Turns:
    """Reads what was said before; each call takes the moment at which it is made."""

    def __init__(
        self, state: SandboxDatabase, archive: Archive, conversations: Conversations, faults: Faults
    ) -> None:
        self._state = state
        self._archive = archive
        self._conversations = conversations
        self._faults = faults

    def prompt(self, fields: Mapping[str, Json], model: Model, now: float) -> Prompt:
        """The prompt of a create; raises ``Denied`` where it cannot go on from what it names, or is too long."""
        self._check_goes_on(fields, now)
        check_files(fields.get("input"), self._state, now)
        prompt = self.read(fields, now)
        check_pairs(prompt.items)
        if prompt.tokens > model.context:
            message = "Your input exceeds the context window of this model. Please adjust your input and try again."
            raise bad_request(message, code="context_length_exceeded", param="input")
        return prompt

    def read(self, fields: Mapping[str, Json], now: float) -> Prompt:
        """The prompt of a request, as far as it can be read."""
        conversation_id, earlier = conversation_of(fields), fields.get("previous_response_id")
        if conversation_id is not None:
            said = self._conversations.items(conversation_id, now)
        else:
            said = self._history(earlier)
        return read_prompt(fields, said, attached=lambda item: attached_texts(item, self._state, now))

    def resolved(self, fields: dict[str, Json], now: float) -> dict[str, Json]:
        """The request with the items that its input only refers to; raises ``Denied`` (404) for an unknown one."""
        items = fields.get("input")
        if not isinstance(items, list) or not any(item.get("type") == "item_reference" for item in items):
            return fields
        found = [self._item(item["id"], now) if item.get("type") == "item_reference" else item for item in items]
        return {**fields, "input": found}

    def input_items(self, record: Record) -> list[dict[str, Json]]:
        """What a response was made from: the items of those before it, and its own input; no instructions."""
        return [*self._history(record.previous_id), *self._input_of(record)]

    def is_known(self, record: Record, now: float) -> bool:
        """Whether a client can find the response."""
        faults = self._faults
        return is_known(record, now, young_s=faults.young_404_s, vanish_s=faults.vanish_after_s)

    def _item(self, item_id: str, now: float) -> dict[str, Json]:
        item = self._conversations.find_item(item_id)
        if item is not None:
            return item
        # The ids of a response's items begin like its own.
        record = self._archive.find_by_beginning(f"resp_{item_id.partition('_')[2][:_SHARED]}")
        if record is not None and self.is_known(record, now):
            said: list[dict[str, Json]] = [*self._input_of(record), *orjson.loads(record.output)]
            for each in said:
                if each["id"] == item_id:
                    return each
        message = f"Item with id '{item_id}' not found."
        raise refuse(404, message, type="invalid_request_error", code=None, param="input", kind="not_found")

    def _check_goes_on(self, fields: Mapping[str, Json], now: float) -> None:
        """A response can be gone on with if it ended well and is still stored, a conversation if it is free."""
        conversation_id, response_id = conversation_of(fields), fields.get("previous_response_id")
        if conversation_id is not None:
            self._conversations.check_free(conversation_id, now)
        if response_id is None:
            return
        record = self._archive.get(response_id)
        if record is None or not self.is_known(record, now) or true_status(record, now) not in _GOES_ON:
            message = f"Previous response with id '{response_id}' not found."
            raise bad_request(message, code="previous_response_not_found", param="previous_response_id")

    def _history(self, response_id: str | None) -> list[dict[str, Json]]:
        """What was said before: input and output of the previous response, and of those before it that are left."""
        turns: list[list[dict[str, Json]]] = []
        while response_id is not None:
            record = self._archive.get(response_id)
            if record is None or record.deleted_at:
                break
            turns.append([*self._input_of(record), *orjson.loads(record.output)])
            response_id = record.previous_id
        return [item for turn in reversed(turns) for item in turn]

    def _input_of(self, record: Record) -> list[dict[str, Json]]:
        return list_items(orjson.loads(self._archive.input_of(record.id)), record.id)
