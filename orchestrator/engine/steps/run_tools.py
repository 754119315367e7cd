"""Run the tools that a response stopped for; what each says is on disk before the model hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from orchestrator.core.events import Warned
from orchestrator.core.model import FunctionCall
from orchestrator.core.states import State
from orchestrator.engine.items import After, AwaitingTools, Finished, Queued
from orchestrator.engine.steps.context import Context
from orchestrator.engine.steps.notify import notify_dependents, notify_settled
from orchestrator.executors.function_tools import FunctionTools
from orchestrator.job.requests.turns import continuation_of, tool_output
from orchestrator.stores.reads import Continuation, ToolCall
from orchestrator.stores.writes import Leaving

__all__ = ["run_tools"]


async def run_tools(context: Context, acting: AwaitingTools) -> After:
    """Answer the calls of a response, and put the request back into the queue for its next turn.

    ``acting.said`` is what an earlier process had from the tools already; those are not run again.
    """
    tools = context.tools
    if context.flow.cancelling or tools is None:
        # Without tools there is nobody but a cancel of a run that was left.
        return await _leave(context, acting, State.CANCELLED, "cancelled", "cancelled at your request")
    if acting.open.turn - acting.open.repairs + 1 >= tools.max_turns:
        message = f"after {tools.max_turns} turns the model still asks for tools"
        return await _leave(context, acting, State.FAILED, "max_turns", message)
    said = await _answers(context, tools, acting)
    items = [tool_output(call.call_id, said[call.call_id]) for call in acting.calls]
    return await _leave(
        context,
        acting,
        State.PENDING,
        continuation=Continuation(
            fields=continuation_of(acting.open.response_id, items), context_tokens=acting.context_tokens
        ),
    )


async def _answers(context: Context, tools: FunctionTools, acting: AwaitingTools) -> Mapping[str, str]:
    said = dict(acting.said)

    async def answer(place: int, call: FunctionCall) -> None:
        started_at = context.clock.now()
        answered = await tools.call(call.name, call.arguments)
        if answered.raised is not None:
            message = f"the tool {call.name!r} failed for row {acting.open.key!r}: {answered.raised}"
            context.observe(Warned(code="tool_failed", message=message))
        await context.store.add_tool_call(
            ToolCall(
                attempt_id=acting.open.attempt_id,
                call_id=call.call_id,
                place=place,
                name=call.name,
                arguments=call.arguments,
                output=answered.output,
                failed=answered.failed,
                started_at=started_at,
                ended_at=context.clock.now(),
            )
        )
        said[call.call_id] = answered.output

    async with anyio.create_task_group() as tasks:
        for place, call in _unanswered(acting.calls, said):
            tasks.start_soon(answer, place, call)
    return said


def _unanswered(calls: Sequence[FunctionCall], said: Mapping[str, str]) -> list[tuple[int, FunctionCall]]:
    return [(place, call) for place, call in enumerate(calls) if call.call_id not in said]


async def _leave(
    context: Context,
    acting: AwaitingTools,
    to: State,
    code: str | None = None,
    message: str | None = None,
    *,
    continuation: Continuation | None = None,
) -> After:
    open_, now = acting.open, context.clock.now()
    followers = await context.store.leave(
        Leaving(
            request_id=open_.request_id,
            attempt_id=open_.attempt_id,
            to=to,
            at=now,
            code=code,
            message=message,
            continuation=continuation,
        )
    )
    context.count(State.AWAITING_TOOLS, to)
    if to is State.PENDING:
        return Queued(now)
    notify_settled(context, open_, to, code)
    return Finished(unblocked=notify_dependents(context, followers))
