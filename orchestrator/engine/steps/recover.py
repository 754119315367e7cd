"""Take up what an earlier process left open."""

from __future__ import annotations

from orchestrator.core.states import State
from orchestrator.engine.items import After, AwaitingTools, Held, OpenResponse, Waiting
from orchestrator.engine.steps.context import Context
from orchestrator.engine.steps.in_doubt import doubt
from orchestrator.engine.steps.poll import first_poll
from orchestrator.engine.steps.settle import context_tokens, end
from orchestrator.policy.errors.verdicts import Cancelled
from orchestrator.provider.wire import function_calls, parse_response
from orchestrator.stores.base import RecoveryReader
from orchestrator.stores.reads import OpenAttempt

__all__ = ["recover"]


async def recover(context: Context, attempt: OpenAttempt, reader: RecoveryReader) -> After:
    """Take up an attempt that an earlier process left open."""
    open_ = OpenResponse(
        request_id=attempt.request_id,
        attempt_id=attempt.attempt_id,
        key=attempt.key,
        attempts=attempt.attempts,
        response_id=attempt.response_id or "",
        status=attempt.status or "",
        sent_at=attempt.sent_at,
        accepted_at=attempt.accepted_at or attempt.sent_at,
        model=attempt.model,
        service_tier=attempt.service_tier,
        window=attempt.window,
        worst_case_pusd=attempt.worst_case_pusd,
        max_output_tokens=None,
        accepted_here=False,
        turn=attempt.turn,
        repairs=attempt.repairs,
    )
    if attempt.state is State.AWAITING_TOOLS:
        # Its response has ended and is charged; what is left is between us and the tools.
        return await _acting(open_, reader)
    context.budget.adopt(attempt.worst_case_pusd or 0)
    match attempt.state:
        case State.SUBMITTED:
            first_poll(context, open_, None)
            return Waiting(open_, context.clock.now(), forced=True)
        case State.SUBMITTING:
            after = await doubt(
                context, open_, "submit_in_doubt", "the process ended while the request was being sent", counted=False
            )
        case _:
            after = Held()
    if isinstance(after, Held) and context.flow.cancelling:
        return await end(context, open_, State.IN_DOUBT, Cancelled("cancelled at your request"))
    return after


async def _acting(open_: OpenResponse, reader: RecoveryReader) -> AwaitingTools:
    body = await reader.body(open_.attempt_id) or b"{}"
    said = {call.call_id: call.output for call in await reader.tool_calls(open_.attempt_id)}
    return AwaitingTools(open_, function_calls(body), context_tokens(parse_response(body)), said)
