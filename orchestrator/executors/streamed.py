"""Background responses that are streamed: created with ``stream: true``, so that their progress can be followed."""

from __future__ import annotations

from http import HTTPStatus

from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem, Refused
from orchestrator.executors.background import BackgroundExecutor
from orchestrator.executors.base import Capabilities
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.streaming import EventStream, StreamEvent, StreamingClient

__all__ = ["StreamedExecutor"]


class StreamedExecutor(BackgroundExecutor):
    """As ``BackgroundExecutor``, with the event stream of each response beside it.

    A stream only reports progress. Whether a response has ended is decided by a poll, as always; only where the
    server does not know a response whose stream it sends, or sent to its end, the stream stands in for the poll.
    """

    capabilities = Capabilities(poll=True, cancel=True, stream=True)

    def __init__(self, client: ResponsesClient, streams: StreamingClient) -> None:
        super().__init__(client)
        self.streams = self
        self._streaming = streams
        self._begun: dict[str, EventStream] = {}
        # What the streams that are read, or were read to their end, say of their responses.
        self._streamed: dict[str, Seen] = {}

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
            self._streamed[seen.response.id] = seen
        return seen

    async def poll(self, response_id: str) -> Seen | Problem:
        """The response as it is now; what its stream says of it if the server keeps no responses."""
        answer = await super().poll(response_id)
        is_unknown = isinstance(answer, Refused) and answer.status == HTTPStatus.NOT_FOUND
        return self._streamed.get(response_id, answer) if is_unknown else answer

    def keep_end(self, response_id: str, event: StreamEvent) -> None:
        """Keep the response that the last event of its stream holds."""
        seen = self._streaming.ended(event)
        if isinstance(seen, Seen) and response_id in self._streamed:
            self._streamed[response_id] = seen

    def forget(self, response_id: str) -> None:
        """Drop what a stream said of its response."""
        self._streamed.pop(response_id, None)

    def take_stream(self, response_id: str) -> EventStream | None:
        """The stream that came with the create call, once."""
        return self._begun.pop(response_id, None)

    async def follow(self, response_id: str, *, after: int | None) -> EventStream | Problem:
        """The response's stream, from the event after a number on."""
        return await self._streaming.follow(response_id, after=after)
