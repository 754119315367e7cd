"""What an executor does: make a request into bytes, send it, look at it, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem

__all__ = ["Executor"]


class Executor(Protocol):
    """One way to have a request answered; every call returns what happened and raises nothing of the provider's."""

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, number: int) -> bytes:
        """The body of the create call, marked with whose it is."""
        ...

    async def submit(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem: ...

    async def poll(self, response_id: str) -> Seen | Problem: ...

    async def cancel(self, response_id: str) -> Seen | Problem: ...

    async def new_conversation(self, run_uid: str, chain: str) -> str | Problem:
        """Make a conversation object at the provider, marked with whose it is; its id."""
        ...
