"""Synchronous responses: the create call is held until the answer is there, for servers without a background mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem
from orchestrator.executors.background import BackgroundExecutor, create_body
from orchestrator.executors.base import Capabilities
from orchestrator.provider.client import ResponsesClient

__all__ = ["SyncExecutor"]


class SyncExecutor(BackgroundExecutor):
    """As ``BackgroundExecutor``, but ``background`` is left out; closing the connection cancels the response.

    ``held`` makes the create calls, with connections of their own and a read timeout as long as an answer may take.
    A response that comes back unfinished is polled and cancelled as any other.
    """

    capabilities = Capabilities(poll=True, cancel=True, held=True)

    def __init__(self, client: ResponsesClient, held: ResponsesClient) -> None:
        super().__init__(client)
        self._held = held

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, stage: str, number: int) -> bytes:
        """The body of the create call, without ``background``."""
        return create_body(fields, run_uid=run_uid, key=key, stage=stage, number=number, background=False)

    async def submit(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem:
        """Send a request and wait for its answer."""
        return await self._held.create(body, idempotency_key=idempotency_key, client_request_id=client_request_id)
