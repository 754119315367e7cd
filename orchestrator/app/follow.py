"""Shows a response as it grows: by its stream if there is one, else by polling."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Response, Seen
from orchestrator.core.problems import Problem, Refused
from orchestrator.core.states import SETTLED, State
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.stream_errors import cannot_stream
from orchestrator.policy.errors.verdicts import Expired, Halt
from orchestrator.policy.rate_limits.backoff import retry_wait
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.redaction import Redaction
from orchestrator.provider.streaming import ENDINGS, EventStream, StreamingClient, StreamLost
from orchestrator.stores.request_history import RequestHistory

__all__ = ["FollowEnded", "LiveEvent", "LiveTail", "ResponseProgress", "TextDelta", "replay_events"]

# How often the database is asked whether the row has a response by now.
_UNSENT_S = 0.5
_FIRST_POLL_S, _LAST_POLL_S = 1.0, 15.0
_TRIES = 8


@fast_dataclass(kw_only=False)
class TextDelta:
    """A piece of the answer's text."""

    text: str


@fast_dataclass(kw_only=False)
class ResponseProgress:
    """Progress, in the provider's word or in ours; ``item`` is the type of the output item that it is about.

    ``sequence`` is the event to continue after, if the stream is numbered.
    """

    what: str
    item: str | None = None
    sequence: int | None = None


@fast_dataclass(kw_only=False)
class FollowEnded:
    """The response has ended with this status of the provider's, or the row with this state of ours."""

    status: str
    ok: bool
    message: str | None = None


LiveEvent: TypeAlias = TextDelta | ResponseProgress | FollowEnded


class LiveTail:
    """Follows one row's latest response to its end; it changes nothing, and another process may hold the run."""

    def __init__(
        self,
        client: ResponsesClient,
        streams: StreamingClient,
        *,
        redaction: Redaction,
        history: Callable[[], Awaitable[RequestHistory]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._streams = streams
        self._history = history
        self._clock = clock
        self._rng = rng
        self._pieces = redaction.pieces()
        self._shown = ""
        # Whether an earlier follow received the beginning, and whether the stream reported the end.
        self._begun_before = False
        self._saw_end = False

    async def follow(self, *, after: int | None = None) -> AsyncIterator[LiveEvent]:
        """Yields what comes after an event (None: from the first); the last one is ``FollowEnded``."""
        self._begun_before = after is not None
        response_id: str | None = None
        waiting = False
        while response_id is None:
            history = await self._history()
            if history.request.state in SETTLED:
                for event in replay_events(history):
                    yield event
                return
            latest = history.attempts[-1] if history.attempts else None
            response_id = latest.response_id if latest is not None and latest.ended_at is None else None
            if response_id is None:
                if not waiting:
                    yield ResponseProgress("not sent yet")
                waiting = True
                await self._sleep(_UNSENT_S)
        async for event in self._stream(response_id, after):
            yield event
        for rest in self._show(self._pieces.rest()):
            yield rest
        async for event in self._poll(response_id):
            yield event

    async def _stream(self, response_id: str, after: int | None) -> AsyncIterator[LiveEvent]:
        """Yields what the stream sends, opened again where it breaks, to its end or until it is not available."""
        tries = 0
        while tries < _TRIES:
            answer = await self._streams.follow(response_id, after=after)
            if isinstance(answer, EventStream):
                try:
                    async for event in answer:
                        tries = 0
                        after = event.sequence if event.sequence is not None else after
                        if event.type == "response.output_text.delta":
                            text = str(event.fields.get("delta", ""))
                            for ready in self._show(self._pieces.feed(text.encode("utf-8", "surrogatepass"))):
                                yield ready
                        elif not event.is_piece:
                            yield ResponseProgress(event.type, event.item_type, after)
                        if event.type in ENDINGS:
                            self._saw_end = True
                            return
                except StreamLost:
                    yield ResponseProgress("the connection was lost; continuing from there", None, after)
                finally:
                    await answer.aclose()
            elif cannot_stream(answer):
                yield ResponseProgress(f"no stream ({_words(answer)}); polling instead")
                return
            if (await self._history()).request.state in SETTLED:
                return
            tries += 1
            await self._sleep(retry_wait(tries, self._rng))
        yield ResponseProgress("the stream is not available; polling instead")

    async def _poll(self, response_id: str) -> AsyncIterator[LiveEvent]:
        """Poll until the response has ended, then yield the rest of its text."""
        status, polls, misses, since = "", 0, 0, self._clock.now()
        while True:
            answer = await self._client.retrieve(response_id)
            if isinstance(answer, Seen):
                response, misses = answer.response, 0
                if response.ended:
                    for rest in self._rest(response.output_text):
                        yield rest
                    yield _over(response)
                    return
                if response.status != status:
                    status = response.status
                    yield ResponseProgress(status)
            elif (history := await self._history()).request.state in SETTLED:
                # The process that holds the run was faster, and the provider is gone: a sandbox ends with its run.
                for known in replay_events(history):
                    for event in self._rest(known.text) if isinstance(known, TextDelta) else [known]:
                        yield event
                return
            else:
                misses += 1
                missing_s = self._clock.now() - since
                verdict = judge_poll(answer, age_s=float("inf"), misses=misses, missing_s=missing_s)
                if isinstance(verdict, Expired | Halt):
                    yield FollowEnded("unknown", ok=False, message=verdict.message)
                    return
            polls += 1
            await self._sleep(min(_FIRST_POLL_S * 1.5**polls, _LAST_POLL_S))

    def _show(self, text: bytes) -> list[TextDelta]:
        """Returns a piece of the answer to show, which counts as shown from now on."""
        if not text:
            return []
        piece = text.decode("utf-8", "surrogatepass")
        self._shown += piece
        return [TextDelta(piece)]

    def _rest(self, text: str) -> list[TextDelta]:
        """Returns the part of the whole text that was not shown yet."""
        if self._begun_before:
            # Which part was shown then is unknown; if the stream came to its end, the rest was shown now.
            return [] if self._saw_end else [TextDelta(text)]
        rest = text.removeprefix(self._shown)
        return [TextDelta(rest)] if rest and text.startswith(self._shown) else []

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + seconds)


def replay_events(history: RequestHistory) -> list[LiveEvent]:
    """Returns what is on disk of a settled row as live events."""
    request = history.request
    text = next((each.output_text for each in reversed(history.responses) if each.output_text), None)
    shown: list[LiveEvent] = [TextDelta(text)] if text else []
    return [*shown, FollowEnded(request.state.value, ok=request.state is State.SUCCEEDED, message=request.code)]


def _over(response: Response) -> FollowEnded:
    message = response.error_message or response.incomplete_reason or response.refusal
    return FollowEnded(response.status, ok=response.status == "completed", message=message)


def _words(problem: Problem) -> str:
    return problem.message if isinstance(problem, Refused) else problem.reason
