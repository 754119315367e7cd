"""A server of one's own costs nothing, and nothing of it is of unknown cost."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Config
from orchestrator.app.forecast.text import forecast_line
from orchestrator.core.errors import ExitCode
from orchestrator.core.model import Response, Usage
from orchestrator.policy.pricing.price_rules import PriceRules
from orchestrator.policy.pricing.prices import PriceBook

from .rehearsal import Rehearse

pytestmark = pytest.mark.anyio

FREE = {"prices": "free"}
LOST = {"drop_after": 0.3, "failed_server_error": 0.2, "vanish": 0.2, "vanish_after_s": 0}


async def test_lost_and_expired_responses_are_requested_again(rehearse: Rehearse) -> None:
    config: dict[str, Any] = {**FREE, "in_doubt": {"resend_below_usd": 0}}
    job = {"request": {"model": "my-model"}, "retry": {"attempts": 50}}
    at = await rehearse(faults=LOST, config=config, job=job, sandbox={"models": ["my-model"]})
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": 12}
    summary = account.summary
    assert (summary.cost_pusd, summary.cost_unknown, summary.cost_unknown_upper_bound_pusd) == (0, 0, 0)


async def test_a_budget_refuses_nothing(rehearse: Rehearse) -> None:
    at = await rehearse(rows=3, config=FREE, job={"budget": {"usd": 0.01}})
    at.ask_for(max_output_tokens=None)
    account = await at.run(same_bill=False)
    assert account.states == {"succeeded": 3}
    assert account.summary.cost_pusd == 0


async def test_the_forecast_is_nothing(rehearse: Rehearse) -> None:
    at = await rehearse(rows=3, config=FREE)
    at.ask_for(model="my-model", max_output_tokens=None)
    async with at.orchestrator() as orchestrator:
        forecast = await orchestrator.estimate(at.job)
    line = forecast_line(forecast)
    assert "$0.00" in line
    assert "bound" not in line
    assert "not known" not in line


@pytest.mark.parametrize("usage", [None, Usage(input_tokens=10**9, output_tokens=10**9)])
def test_every_response_is_free(usage: Usage | None) -> None:
    prices = PriceBook(PriceRules(free=True))
    response = Response(id="resp_1", status="completed", ended=True, body=b"{}", usage=usage)
    charge = prices.charge_response(response, requested_model="gpt-5", requested_tier="ultrafast", at=0.0)
    assert (charge.cost_pusd, charge.upper_bound_pusd) == (0, None)
    assert prices.worst_case_of({"model": "gpt-5", "tools": [{"type": "web_search"}]}, at=0.0) == 0


def test_the_config_says_so() -> None:
    config = Config.model_validate(FREE)
    assert config.is_free
    assert config.price_rules().free
