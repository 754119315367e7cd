"""Resume what an earlier process left open."""

from __future__ import annotations

from orchestrator.core.states import State
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, AwaitingTools, Held, OpenResponse, Waiting
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.stages import Stage
from orchestrator.engine.steps.in_doubt import resend_or_hold, still_in_doubt
from orchestrator.engine.steps.poll import first_poll
from orchestrator.engine.steps.settle import Settle, context_tokens
from orchestrator.policy.errors.verdicts import Cancelled
from orchestrator.provider.wire import function_calls, parse_response
from orchestrator.stores.reads import OpenAttempt

__all__ = ["Recover", "opened"]


class Recover:
    """Resumes attempts that an earlier process left open."""

    def __init__(self, run: RunContext, funds: Funds, settle: Settle) -> None:
        self._run = run
        self._funds = funds
        self._settle = settle

    async def recover(self, attempt: OpenAttempt) -> After:
        """Resume one attempt, by the state of its request."""
        run = self._run
        open_ = opened(attempt, run.stages[attempt.stage], run.places[attempt.endpoint])
        if attempt.state is State.AWAITING_TOOLS:
            # Its response has ended and is charged; only its tools remain.
            return await self._awaiting_tools(open_)
        if not attempt.adopted:
            self._funds.budget.adopt(attempt.worst_case_pusd or 0, attempt.stage)
        match attempt.state:
            case State.SUBMITTED:
                age_s = run.clock.now() - open_.accepted_at
                run.endpoints[open_.endpoint].resumed_polls.add(open_.response_id, age_s=age_s)
                first_poll(open_, None)
                return Waiting(open_, run.clock.now(), forced=True)
            case State.SUBMITTING:
                message = "the process ended while the request was being sent"
                after = await resend_or_hold(run, self._funds, open_, "submit_in_doubt", message, counted=False)
            case _:
                after = still_in_doubt(run, open_)
        if isinstance(after, Held) and run.status.cancelling:
            return await self._settle.end(open_, State.IN_DOUBT, Cancelled("cancelled at your request"))
        return after

    async def _awaiting_tools(self, open_: OpenResponse) -> AwaitingTools:
        reader = self._run.reader
        body = await reader.body(open_.attempt_id) or b"{}"
        answers = {call.call_id: call.output for call in await reader.tool_calls(open_.attempt_id)}
        return AwaitingTools(open_, function_calls(body), context_tokens(parse_response(body)), answers)


def opened(attempt: OpenAttempt, stage: Stage, endpoint: int = 0) -> OpenResponse:
    """An attempt of an earlier process, or a line of a batch, as the engine follows it."""
    return OpenResponse(
        request_id=attempt.request_id,
        attempt_id=attempt.attempt_id,
        key=attempt.key,
        stage=stage,
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
        lane=attempt.lane,
        endpoint=endpoint,
        accepted_here=False,
        adopted=attempt.adopted,
        number=attempt.number,
        turn=attempt.turn,
        repairs=attempt.repairs,
    )
