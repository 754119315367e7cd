"""Poll a response again that was given up: its late answer makes its cost known."""

from __future__ import annotations

from orchestrator.core.model import Seen
from orchestrator.engine.funds import Funds
from orchestrator.engine.run_context import RunContext
from orchestrator.executors.registry import DEFAULT_LANE
from orchestrator.stores.reads import Uncosted

__all__ = ["settle_late_cost"]


async def settle_late_cost(run: RunContext, place: int, funds: Funds, attempt: Uncosted) -> bool:
    """Poll a response that was given up; True if its cost is known now.

    A response that a poll saw as cancelled may still have run to its end (responses API, "Cancel").
    """
    run.observation.progress.polls += 1
    answer = await run.endpoints[place].executors.of(DEFAULT_LANE).poll(attempt.response_id)
    if not isinstance(answer, Seen) or not answer.response.ended:
        return False
    response = answer.response
    if response.id != attempt.response_id and await run.reader.holder(response.id) is not None:
        return False
    try:
        charge = funds.prices[place].charge_response(
            response,
            requested_model=attempt.model,
            requested_tier=attempt.service_tier,
            at=attempt.sent_at,
            window=attempt.window,
            worst_case=attempt.upper_bound_pusd,
        )
    except Exception:  # noqa: BLE001  # what a reply reports must not stop the others: its cost stays unknown
        return False
    if charge.cost_pusd is None or charge.usage is None:
        return False
    if not await run.store.late_charge(attempt.attempt_id, charge, response.status, response.body):
        return False
    funds.settle_late(attempt.upper_bound_pusd, charge, charge.cost_pusd)
    return True
