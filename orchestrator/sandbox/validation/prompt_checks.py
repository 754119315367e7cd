"""Refuses a create whose prompt cannot be read or is too long for the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request
from orchestrator.sandbox.simulation.attachments import file_parts
from orchestrator.sandbox.simulation.creation import conversation_of
from orchestrator.sandbox.simulation.history import History
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.prompts import Prompt
from orchestrator.sandbox.storage.file_store import read_file
from orchestrator.sandbox.storage.response_record import true_status
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from orchestrator.sandbox.validation.item_pairs import check_pairs

__all__ = ["read_checked_prompt"]

Json: TypeAlias = Any

# The final statuses of a response that another can continue.
_CONTINUABLE = ("completed", "incomplete")


def read_checked_prompt(
    fields: Mapping[str, Json], model: Model, history: History, state: SandboxDatabase, now: float
) -> Prompt:
    """The prompt of a create; raises ``ErrorReply`` if it cannot continue what it names, or is too long."""
    _check_continuable(fields, history, now)
    _check_files(fields.get("input"), state, now)
    prompt = history.read(fields, now)
    check_pairs(prompt.items)
    if prompt.tokens > model.context:
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
        raise bad_request(message, code="context_length_exceeded", param="input")
    return prompt


def _check_continuable(fields: Mapping[str, Json], history: History, now: float) -> None:
    """A conversation must be free; a previous response must have ended well and still be stored."""
    conversation_id, response_id = conversation_of(fields), fields.get("previous_response_id")
    if conversation_id is not None:
        history.check_free(conversation_id, now)
    if response_id is None:
        return
    record = history.find_response(response_id, now)
    if record is None or true_status(record, now) not in _CONTINUABLE:
        message = f"Previous response with id '{response_id}' not found."
        raise bad_request(message, code="previous_response_not_found", param="previous_response_id")


def _check_files(items: Json, state: SandboxDatabase, now: float) -> None:
    """Every file that the input refers to must exist."""
    parts = (part for item in (items if isinstance(items, list) else ()) for part in file_parts(item))
    for file_id in (part["file_id"] for part in parts if isinstance(part.get("file_id"), str)):
        try:
            read_file(state, file_id, now)
        except ErrorReply:
            # Which code the provider gives for it is not known.
            raise bad_request(f"No such File object: {file_id}", code=None, param="input") from None
