"""Run the tools that a response stopped for; each answer is on disk before it goes to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from orchestrator.core.model import FunctionCall
from orchestrator.core.states import Event, State
from orchestrator.engine.items import After, AwaitingTools, Finished, OpenResponse, Queued
from orchestrator.engine.run_context import RunContext
from orchestrator.executors.function_tools import FunctionTools
from orchestrator.job.requests.turns import continuation_of, tool_output
from orchestrator.stores.reads import Continuation, ToolCall
from orchestrator.stores.writes import Leaving

__all__ = ["RunTools"]


class RunTools:
    """Answers the calls of responses with the ``tools`` of each stage; without, a request can only be cancelled."""

    def __init__(self, run: RunContext, tools: Mapping[str, FunctionTools]) -> None:
        self._run = run
        self._tools = tools

    async def run_tools(self, awaiting: AwaitingTools) -> After:
        """Answer the calls of a response, and queue the request for its next turn.

        Calls that an earlier process has run are not run again.
        """
        open_, tools = awaiting.open, self._tools.get(awaiting.open.stage.name)
        if self._run.status.cancelling or tools is None:
            return await self._settle(open_, Event.CANCEL, "cancelled", "cancelled at your request")
        if open_.turn - open_.repairs + 1 >= tools.max_turns:
            message = f"after {tools.max_turns} turns the model still asks for tools"
            return await self._settle(open_, Event.FAIL, "max_turns", message)
        answers = await self._answers(tools, awaiting)
        items = [tool_output(call.call_id, answers[call.call_id]) for call in awaiting.calls]
        now = self._run.clock.now()
        await self._run.store.leave(
            Leaving(
                request_id=open_.request_id,
                attempt_id=open_.attempt_id,
                event=Event.CONTINUE,
                at=now,
                continuation=Continuation(
                    fields=continuation_of(open_.response_id, items), context_tokens=awaiting.context_tokens
                ),
            )
        )
        self._run.observation.moved(State.AWAITING_TOOLS, Event.CONTINUE)
        return Queued(now)

    async def _answers(self, tools: FunctionTools, awaiting: AwaitingTools) -> Mapping[str, str]:
        answers = dict(awaiting.answers)

        async def answer(place: int, call: FunctionCall) -> None:
            answers[call.call_id] = await self._call(tools, awaiting.open.attempt_id, place, call, awaiting.open.key)

        async with anyio.create_task_group() as tasks:
            for place, call in _unanswered(awaiting.calls, answers):
                tasks.start_soon(answer, place, call)
        return answers

    async def _call(self, tools: FunctionTools, attempt_id: int, place: int, call: FunctionCall, key: str) -> str:
        run = self._run
        started_at = run.clock.now()
        answered = await tools.call(call.name, call.arguments)
        if answered.raised is not None:
            message = f"the tool {call.name!r} failed for row {key!r}: {answered.raised}"
            run.observation.warn("tool_failed", message)
        await run.store.add_tool_call(
            ToolCall(
                attempt_id=attempt_id,
                call_id=call.call_id,
                place=place,
                name=call.name,
                arguments=call.arguments,
                output=answered.output,
                failed=answered.failed,
                started_at=started_at,
                ended_at=run.clock.now(),
            )
        )
        return answered.output

    async def _settle(self, open_: OpenResponse, event: Event, code: str, message: str) -> After:
        run = self._run
        moved = await run.store.leave(
            Leaving(
                request_id=open_.request_id,
                attempt_id=open_.attempt_id,
                event=event,
                at=run.clock.now(),
                code=code,
                message=message,
            )
        )
        to = run.observation.moved(State.AWAITING_TOOLS, event)
        open_.stage.cache_is_warm = True
        run.observation.settled(open_, to, code)
        return Finished(unblocked=run.observation.dependents(moved))


def _unanswered(calls: Sequence[FunctionCall], answers: Mapping[str, str]) -> list[tuple[int, FunctionCall]]:
    return [(place, call) for place, call in enumerate(calls) if call.call_id not in answers]
