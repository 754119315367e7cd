"""What an executor does: encode a request, send it, poll it, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem
from orchestrator.provider.streaming import EventStream, StreamEvent

__all__ = ["Capabilities", "Executor", "ResponseStreams"]


@fast_dataclass
class Capabilities:
    """What a way of carrying out requests can do; the engine asks these values, never the type of an executor.

    ``requests_per_call`` is how many requests one create call carries at most; ``held`` says that the call lasts
    until the response has ended.
    """

    poll: bool
    cancel: bool
    stream: bool = False
    requests_per_call: int = 1
    held: bool = False


class ResponseStreams(Protocol):
    """The event streams of responses, beside their polls."""

    def take_stream(self, response_id: str) -> EventStream | None:
        """The stream that came with the create call, once."""
        ...

    async def follow(self, response_id: str, *, after: int | None) -> EventStream | Problem:
        """The response's stream, from the event after a number on."""
        ...

    def keep_end(self, response_id: str, event: StreamEvent) -> None:
        """Keep the response that the last event of its stream holds, for a server that keeps no responses."""
        ...

    def forget(self, response_id: str) -> None:
        """The stream of a response broke off, or is of no more use: only polls say how it ends."""
        ...


class Executor(Protocol):
    """One way to have a request answered; each call returns what happened, and never raises a provider's error."""

    @property
    def capabilities(self) -> Capabilities:
        """What this executor can do."""
        ...

    @property
    def streams(self) -> ResponseStreams | None:
        """The event streams of its responses; None without ``capabilities.stream``."""
        ...

    def encode(self, fields: Mapping[str, Any], *, run_uid: str, key: str, stage: str, number: int) -> bytes:
        """The body of the create call, marked with the run, row, stage and attempt it belongs to."""
        ...

    async def submit(self, body: bytes, *, idempotency_key: str, client_request_id: str) -> Seen | Problem:
        """Send a request: the response that it created, or what went wrong."""
        ...

    async def poll(self, response_id: str) -> Seen | Problem:
        """The response as it is now."""
        ...

    async def cancel(self, response_id: str) -> Seen | Problem:
        """Ask the provider to stop working on a response."""
        ...

    async def new_conversation(self, run_uid: str, chain: str) -> str | Problem:
        """Create a conversation object at the provider, marked with its run and chain; its id."""
        ...
