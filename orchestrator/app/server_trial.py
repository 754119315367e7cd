"""Tries out what a server supports with two small requests, for ``doctor``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import orjson

from orchestrator.core.clock import Clock
from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem, Refused
from orchestrator.core.provider_error import message_of
from orchestrator.policy.errors.judgement import code_of
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.streaming import EventStream, StreamingClient, StreamLost

__all__ = ["TRIAL_OUTPUT_TOKENS", "TRIAL_REQUESTS", "ServerTrial", "in_words"]

TRIAL_OUTPUT_TOKENS = 16
# One that is polled, and one that is streamed.
TRIAL_REQUESTS = 2
_POLLS = 3
_POLL_EVERY_S = 1.0


class ServerTrial:
    """A create with ``background: true`` and the calls that a run may make for its response, and one with a stream.

    Each step yields its name, whether a run can live with it, what was seen, and what to set.
    """

    def __init__(self, client: ResponsesClient, streams: StreamingClient, model: str, clock: Clock) -> None:
        self._client = client
        self._streams = streams
        self._clock = clock
        self._fields = {"model": model, "input": "Say: ready."}

    async def steps(self) -> AsyncIterator[tuple[str, bool, str, str | None]]:
        """Yields what each call brought; stops where nothing more can be tried."""
        made = await self._client.create(self._body(), idempotency_key=uuid4().hex, client_request_id=uuid4().hex)
        if not isinstance(made, Seen):
            yield "create", False, in_words(made), "the server's own words say what is wrong with the request"
            return
        response = made.response
        if response.ended:
            hint = "write lane: sync in the job, and set lanes.sync.at_once in the config to its slots"
            yield "background", True, "ignored: the create is answered when the response has ended", hint
        else:
            yield "background", True, f"accepted with status {response.status}", None
        async for step in self._calls_for(response.id, was_open=not response.ended):
            yield step
        yield "stream", True, await self._streamed(), None
        counted = await self._client.count_input_tokens(orjson.dumps(self._fields))
        has_count = isinstance(counted, int)
        yield "tokens", True, f"counted: {counted}" if has_count else f"not counted ({in_words(counted)})", None

    def _body(self, **more: bool) -> bytes:
        bounded = {"background": True, "store": True, "max_output_tokens": TRIAL_OUTPUT_TOKENS}
        return orjson.dumps({**self._fields, **bounded, **more})

    async def _streamed(self) -> str:
        """What a create with ``stream: true`` brings; its response is not waited for."""
        made = await self._streams.create(
            self._body(stream=True), idempotency_key=uuid4().hex, client_request_id=uuid4().hex
        )
        if not isinstance(made, tuple):
            return f"not supported ({in_words(made)}): leave `stream` out of the job"
        seen, stream = made
        try:
            return "ignored: the response comes without a stream" if stream is None else await _first_event(stream)
        finally:
            await self._client.cancel(seen.response.id)
            await self._client.delete(seen.response.id)

    async def _calls_for(
        self, response_id: str, *, was_open: bool
    ) -> AsyncIterator[tuple[str, bool, str, str | None]]:
        polled = await self._poll(response_id)
        if isinstance(polled, Seen):
            yield "polling", True, f"the response is found, with status {polled.response.status}", None
        elif was_open:
            hint = "it accepts background responses and keeps none: each row would be paid for and never answered"
            yield "polling", False, in_words(polled), hint
        else:
            yield "polling", True, f"responses are not kept ({in_words(polled)})", None
        cancelled = await self._client.cancel(response_id)
        yield "cancel", True, _outcome(cancelled, "answered"), None
        deleted = await self._client.delete(response_id)
        yield "delete", True, "deleted" if deleted is True else _outcome(deleted, "the response is unknown"), None

    async def _poll(self, response_id: str) -> Seen | Problem:
        """A new response may not be found at once."""
        polled = await self._client.retrieve(response_id)
        for _ in range(_POLLS - 1):
            if isinstance(polled, Seen):
                break
            await self._clock.sleep_until(self._clock.now() + _POLL_EVERY_S)
            polled = await self._client.retrieve(response_id)
        return polled


def in_words(problem: object) -> str:
    """Returns what a server answered, with its own words."""
    if isinstance(problem, Refused):
        return f"HTTP {problem.status} {code_of(problem)}: {message_of(problem)}".replace(
            f"HTTP {problem.status} http_{problem.status}", f"HTTP {problem.status}"
        )
    return str(getattr(problem, "reason", problem))


async def _first_event(stream: EventStream) -> str:
    try:
        return f"events arrive, the first is {(await anext(stream)).type}"
    except StreamLost as error:
        return f"not supported ({error})"
    finally:
        await stream.aclose()


def _outcome(result: object, otherwise: str) -> str:
    refused = isinstance(result, Refused) or hasattr(result, "reason")
    return f"not supported ({in_words(result)})" if refused else otherwise
