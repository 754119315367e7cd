"""Look once more at a response that was given up: what the provider says late makes its cost known."""

from __future__ import annotations

from orchestrator.core.model import Seen
from orchestrator.engine.steps.context import Context, warn_budget
from orchestrator.stores.reads import Uncosted

__all__ = ["settle_late_cost"]


async def settle_late_cost(context: Context, attempt: Uncosted) -> bool:
    """Ask for a response that was given up; True where its cost is known now.

    One that was seen as cancelled may yet have gone on to its end (responses API, "Cancel").
    """
    context.progress.polls += 1
    answer = await context.executor.poll(attempt.response_id)
    if not isinstance(answer, Seen) or not answer.response.ended:
        return False
    response = answer.response
    charge = context.prices.charge_response(
        response,
        requested_model=attempt.model,
        requested_tier=attempt.service_tier,
        at=attempt.sent_at,
        window=attempt.window,
        worst_case=attempt.upper_bound_pusd,
    )
    if charge.cost_pusd is None or charge.usage is None:
        return False
    if not await context.store.late_charge(attempt.attempt_id, charge, response.status, response.body):
        return False
    progress = context.progress
    progress.usage += charge.usage
    progress.cost_pusd += charge.cost_pusd
    progress.cost_unknown -= 1
    warn_budget(context, context.budget.found(attempt.upper_bound_pusd or 0, charge.cost_pusd))
    return True
