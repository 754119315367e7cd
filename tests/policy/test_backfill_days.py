"""What is left of each day of a backfill, and what the days share."""

from __future__ import annotations

from datetime import date

import pytest

from orchestrator.core.states import RunState
from orchestrator.policy.backfill_days import PastRun, cost_of_others, run_of_day, unfinished_outside

MONDAY, SATURDAY, SUNDAY = date(2026, 11, 2), date(2026, 11, 7), date(2026, 11, 8)


def a_run(name: str, state: RunState, reason: str | None = None, cost: int = 0) -> PastRun:
    return PastRun(name=name, state=state, reason=reason, cost_pusd=cost)


@pytest.mark.parametrize(
    ("runs", "name"),
    [
        ([], "j-2026-11-02"),
        ([a_run("j-2026-11-02", RunState.FINISHED)], None),
        ([a_run("j-2026-11-02", RunState.CANCELLED)], None),
        ([a_run("j-2026-11-02", RunState.HALTED, "budget")], "j-2026-11-02"),
        ([a_run("j-2026-11-02", RunState.PAUSED)], "j-2026-11-02"),
        # Part of its rows was never sent, by anyone.
        ([a_run("j-2026-11-02", RunState.CANCELLED, "taken over by j-2026-11-03")], "j-2026-11-02-2"),
        (
            [
                a_run("j-2026-11-02-2", RunState.HALTED, "key"),
                a_run("j-2026-11-02", RunState.CANCELLED, "taken over by x"),
            ],
            "j-2026-11-02-2",
        ),
        ([a_run("j-2026-11-02-2", RunState.FINISHED), a_run("j-2026-11-02", RunState.HALTED)], None),
    ],
)
def test_a_day_that_is_over_needs_no_run(runs: list[PastRun], name: str | None) -> None:
    assert run_of_day("j", MONDAY, {MONDAY: runs}) == name


def test_the_days_share_one_budget() -> None:
    past = {
        MONDAY: [a_run("a-2", RunState.FINISHED, cost=20), a_run("a", RunState.CANCELLED, cost=5)],
        SATURDAY: [a_run("b", RunState.HALTED, cost=30)],
        SUNDAY: [a_run("other", RunState.FINISHED, cost=500)],
    }
    days = [MONDAY, SATURDAY]
    # What a run has cost itself is part of what it may cost in all.
    assert cost_of_others(days, past, "b") == 25
    assert cost_of_others(days, past, "c") == 55


def test_an_unfinished_night_of_another_day_is_found() -> None:
    past = {SUNDAY: [a_run("s", RunState.HALTED)], MONDAY: [a_run("m", RunState.PAUSED)]}
    assert unfinished_outside([MONDAY], past) == "s"
    assert unfinished_outside([MONDAY, SUNDAY], past) is None
    assert unfinished_outside([MONDAY], {SUNDAY: [a_run("s", RunState.CANCELLED)]}) is None
