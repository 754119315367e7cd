"""Conversations: lists of items that requests continue from, and that their responses are added to on completion.

No task runs when a response completes. The next call that reads its conversation adds its items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.faults.api_errors import ErrorReply, error_reply
from orchestrator.sandbox.faults.refused_calls import conversation_locked
from orchestrator.sandbox.storage.input_items import list_items
from orchestrator.sandbox.storage.response_record import has_ended, true_status
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["ConversationStore"]

Json: TypeAlias = Any


class ConversationStore:
    """The conversations in the database; the calls that read items take the current time."""

    def __init__(self, state: SandboxDatabase, responses: ResponseStore) -> None:
        self._state = state
        self._responses = responses

    def create(self, items: Sequence[Mapping[str, Json]], metadata: Mapping[str, str], now: float) -> dict[str, Json]:
        """Stores a new conversation; returns it as the API shows it."""
        conversation_id = f"conv_{token_hex(25)}"
        self._state.write(
            "INSERT INTO conversation (id, created_at, metadata) VALUES (?, ?, ?)",
            (conversation_id, now, orjson.dumps(metadata)),
        )
        self._append(conversation_id, list_items(list(items), token_hex(20)))
        return self.show(conversation_id)

    def show(self, conversation_id: str) -> dict[str, Json]:
        """The conversation as the API shows it; raises ``ErrorReply`` (404) if it is unknown or deleted."""
        row = self._state.row("SELECT created_at, metadata FROM conversation WHERE id = ?", (conversation_id,))
        if row is None:
            raise _not_found("Conversation", conversation_id)
        return {
            "id": conversation_id,
            "object": "conversation",
            "created_at": int(row["created_at"]),
            "metadata": orjson.loads(row["metadata"]),
        }

    def update(self, conversation_id: str, metadata: Mapping[str, str]) -> dict[str, Json]:
        """Replaces the metadata; returns the conversation."""
        values = (orjson.dumps(metadata), conversation_id)
        self._state.write("UPDATE conversation SET metadata = ? WHERE id = ?", values)
        return self.show(conversation_id)

    def delete(self, conversation_id: str) -> dict[str, Json]:
        """Deletes the conversation and its items, but not its responses."""
        self.show(conversation_id)
        self._state.write("DELETE FROM item WHERE conversation_id = ?", (conversation_id,))
        self._state.write("DELETE FROM conversation WHERE id = ?", (conversation_id,))
        return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}

    def items(self, conversation_id: str, now: float) -> list[dict[str, Json]]:
        """All items, oldest first, including those of responses that have completed by now."""
        self.show(conversation_id)
        self._add_completed(conversation_id, now)
        query = "SELECT body FROM item WHERE conversation_id = ? ORDER BY position"
        return [orjson.loads(row["body"]) for row in self._state.rows(query, (conversation_id,))]

    def item(self, conversation_id: str, item_id: str, now: float) -> dict[str, Json]:
        """One item; raises ``ErrorReply`` (404) if the conversation has none of that id."""
        found = [item for item in self.items(conversation_id, now) if item["id"] == item_id]
        if not found:
            raise _not_found("Item", item_id)
        return found[0]

    def find_item(self, item_id: str) -> dict[str, Json] | None:
        """The item of that id in any conversation."""
        row = self._state.row("SELECT body FROM item WHERE id = ?", (item_id,))
        found: dict[str, Json] | None = orjson.loads(row["body"]) if row else None
        return found

    def add(self, conversation_id: str, items: Sequence[Mapping[str, Json]], now: float) -> list[dict[str, Json]]:
        """Adds items at the end; returns them as the API shows them."""
        self.show(conversation_id)
        self._add_completed(conversation_id, now)
        added = list_items(list(items), token_hex(20))
        self._append(conversation_id, added)
        return added

    def remove(self, conversation_id: str, item_id: str, now: float) -> dict[str, Json]:
        """Removes one item; returns the conversation."""
        self.item(conversation_id, item_id, now)
        self._state.write("DELETE FROM item WHERE conversation_id = ? AND id = ?", (conversation_id, item_id))
        return self.show(conversation_id)

    def check_free(self, conversation_id: str, now: float) -> None:
        """Raises ``ErrorReply`` (``conversation_locked``) while a response is writing to the conversation."""
        if any(not has_ended(record, now) for record in self._responses.pending_in(conversation_id)):
            raise conversation_locked()

    def _add_completed(self, conversation_id: str, now: float) -> None:
        for record in self._responses.pending_in(conversation_id):
            if not has_ended(record, now):
                continue
            if true_status(record, now) == "completed":
                request = orjson.loads(self._responses.input_of(record.id))
                self._append(conversation_id, [*list_items(request, record.id), *orjson.loads(record.output)])
            self._responses.mark_in_conversation(record)

    def _append(self, conversation_id: str, items: Sequence[Mapping[str, Json]]) -> None:
        for item in items:
            self._state.write(
                "INSERT INTO item (conversation_id, id, body) VALUES (?, ?, ?)",
                (conversation_id, item["id"], orjson.dumps(item)),
            )


def _not_found(kind: str, wanted: str) -> ErrorReply:
    message = f"{kind} with id '{wanted}' not found."
    return error_reply(404, message, type="invalid_request_error", code=None, kind="not_found")
