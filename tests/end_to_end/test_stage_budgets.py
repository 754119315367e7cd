"""Money that is set apart for the last stage of a pipeline is there when its rows come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.rig import Rig

ROWS = 12


def a_job(*, budget: float | None, share: float | None) -> dict[str, Any]:
    asked = {"model": "gpt-5-mini", "max_output_tokens": 1000}
    last: dict[str, Any] = {"from": "facts", "request": {**asked, "input": "Brief: {{ facts }}"}}
    if share is not None:
        last["budget"] = {"usd": share}
    job: dict[str, Any] = {
        "stages": {"facts": {"from": "input", "request": {**asked, "input": "{{ text }}"}}, "brief": last}
    }
    return job | ({} if budget is None else {"budget": {"usd": budget}})


def spent(rig: Rig) -> dict[str, int]:
    """What each stage has cost, in picodollars."""
    rows = rig.query(
        "SELECT request.stage, sum(charge.cost_pusd) FROM charge JOIN attempt ON attempt.id = charge.attempt_id "
        "JOIN request ON request.id = attempt.request_id GROUP BY request.stage"
    )
    return dict(rows)


@pytest.mark.parametrize("share", [None, 0.006])
def test_the_last_stage_finds_its_share(rig: Callable[..., Rig], share: float | None) -> None:
    at = rig(rows=ROWS, job=a_job(budget=0.01, share=share), config={"limits": {"max_in_flight": 200}})
    ended = at.run()
    assert (ended.code, ended.summary["reason"]) == (4, "budget")
    costs = spent(at)
    kept = max(0, (share or 0) * 1e12 - costs["brief"])
    [(worst_case,)] = at.query("SELECT max(worst_case_pusd) FROM attempt")
    left = 0.01 * 1e12 - sum(costs.values()) - kept
    assert 0 <= left < worst_case, "the first stage stopped just where the share of the last begins"
    done = dict(at.query("SELECT stage, count(*) FROM request WHERE state = 'succeeded' GROUP BY stage"))
    assert done["brief"] == done["facts"] > 0, "and what it answered is complete"
    # With more money it continues where it was.
    more = a_job(budget=1, share=share)
    at.write_job({"name": "speeches", "input": {"path": "rows.jsonl", "key": "id"}} | more)
    ended = at.run()
    assert (ended.code, ended.summary["requests"]["succeeded"]) == (0, 2 * ROWS)


@pytest.mark.parametrize(
    ("budget", "share", "said"),
    [
        (None, 1.0, "only within a budget of the job"),
        (1.0, 2.0, "set $2 apart, and the budget of the job is $1"),
        (1.0, 0.0, "budget.usd"),
    ],
)
def test_a_share_must_fit_into_the_budget_of_the_job(
    rig: Callable[..., Rig], budget: float | None, share: float, said: str
) -> None:
    ended = rig(rows=1, job=a_job(budget=budget, share=share)).run()
    assert (ended.code, said in ended.err) == (2, True), ended.err
