"""Background responses that are streamed: created with ``stream: true``, so that their progress can be followed."""

from __future__ import annotations

from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem
from orchestrator.executors.background import BackgroundExecutor
from orchestrator.executors.base import Capabilities
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.streaming import EventStream, StreamingClient

__all__ = ["StreamedExecutor"]


class StreamedExecutor(BackgroundExecutor):
    """As ``BackgroundExecutor``, with the event stream of each response beside it.

    A stream only reports progress. Whether a response has ended is decided by a poll, as always.
    """

    capabilities = Capabilities(poll=True, cancel=True, stream=True)

    def __init__(self, client: ResponsesClient, streams: StreamingClient) -> None:
        super().__init__(client)
        self.streams = self
        self._streaming = streams
        self._begun: dict[str, EventStream] = {}

    async def submit(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem:
        """Create the response and keep its stream for ``take_stream``."""
        answer = await self._streaming.create(
            body, idempotency_key=idempotency_key, client_request_id=client_request_id
        )
        if not isinstance(answer, tuple):
            return answer
        seen, stream = answer
        if stream is not None:
            self._begun[seen.response.id] = stream
        return seen

    def take_stream(self, response_id: str) -> EventStream | None:
        """The stream that came with the create call, once."""
        return self._begun.pop(response_id, None)

    async def follow(self, response_id: str, *, after: int | None) -> EventStream | Problem:
        """The response's stream, from the event after a number on."""
        return await self._streaming.follow(response_id, after=after)
