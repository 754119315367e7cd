"""A response whose id was lost is found by an event: it belongs to the request whose marks it has."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.core.model import Response, Seen
from orchestrator.core.problems import Refused
from orchestrator.core.states import Event, State
from orchestrator.engine.items import After, Finished, Waiting
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps.poll import first_poll
from orchestrator.engine.steps.recover import opened
from orchestrator.executors.background import ATTEMPT, KEY, METADATA_VALUE_LIMIT, RUN, attempt_of
from orchestrator.executors.base import Executor
from orchestrator.stores.reads import OpenAttempt
from orchestrator.stores.writes import Acceptance

__all__ = ["Attach"]


class Attach:
    """Gives a response that an event named to the request in doubt that asked for it.

    A request that was sent again meanwhile keeps its new attempt: the response is its earlier attempt's, which may
    have been paid for as well. It is cancelled if it still runs, and its cost becomes known.
    """

    def __init__(self, run: RunContext, executor: Executor) -> None:
        self._run = run
        self._executor = executor

    async def attach(self, response_id: str) -> After | None:
        """Ask whose response it is; None if that is not known yet, ``Finished`` if it is of no interest."""
        run = self._run
        if await run.reader.holder(response_id) is not None:
            return Finished()
        run.observation.progress.polls += 1
        answer = await self._executor.poll(response_id)
        if isinstance(answer, Seen) and answer.response.id == response_id:
            return await self._give(answer.response)
        return Finished() if isinstance(answer, Refused) and answer.status == 404 else None

    async def _give(self, response: Response) -> After | None:
        run = self._run
        mark = self._mark(response)
        if mark is None:
            return Finished()
        for attempt in await run.reader.open_attempts(run.record.id):
            if (attempt.key[:METADATA_VALUE_LIMIT], attempt.stage, attempt.number) == mark:
                return await self._to_open(attempt, response)
        return await self._to_ended(*mark, response)

    def _mark(self, response: Response) -> tuple[str, str, int] | None:
        """The row, the stage and the number of the attempt that asked, if this run did."""
        marks = response.metadata or {}
        key, attempt = marks.get(KEY), attempt_of(marks.get(ATTEMPT))
        if marks.get(RUN) != self._run.record.uid or not isinstance(key, str) or attempt is None:
            return None
        stage, number = attempt
        return None if number is None else (key, stage, number)

    async def _to_open(self, attempt: OpenAttempt, response: Response) -> After | None:
        run = self._run
        if attempt.state is State.SUBMITTING:
            # The reply that names it may still be on its way.
            return None
        if attempt.state is not State.IN_DOUBT:
            return Finished()
        now = run.clock.now()
        accepted = await run.store.accept(
            Acceptance(
                request_id=attempt.request_id,
                attempt_id=attempt.attempt_id,
                response_id=response.id,
                status=response.status,
                at=now,
                from_state=State.IN_DOUBT,
            )
        )
        if not accepted:
            return Finished()
        run.observation.moved(State.IN_DOUBT, Event.ACCEPT)
        run.status.doubt_ended(attempt.attempt_id)
        found = replace(attempt, response_id=response.id, status=response.status, accepted_at=now)
        open_ = opened(found, run.stages[attempt.stage])
        first_poll(open_, None)
        return Waiting(open_, now, forced=True)

    async def _to_ended(self, key: str, stage: str, number: int, response: Response) -> After:
        run = self._run
        request = await run.reader.request(run.record.id, key, stage=stage)
        attempts = [] if request is None else await run.reader.attempts(request.id)
        attempt = next((each for each in attempts if each.number == number), None)
        if attempt is None or not await run.store.name_response(attempt.id, response.id):
            return Finished()
        if not response.ended:
            await self._executor.cancel(response.id)
        # What it costs is asked for when the run ends.
        return Finished()
