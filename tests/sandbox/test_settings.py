"""The settings: what they accept, and what is drawn from a seed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.sandbox.faults.fault_plan import FaultPlan, draw_duration
from orchestrator.sandbox.sandbox_settings import Lognormal, SandboxSettings, Uniform


def settings(**fields: Any) -> SandboxSettings:
    return SandboxSettings.model_validate(fields)


def test_a_duration_is_a_number_a_range_or_a_median() -> None:
    latency = settings(latency={"queue": 1, "run": {"from_s": 1, "to_s": 2}, "reply": {"median_s": 3}}).latency
    assert (latency.queue, latency.run, latency.reply) == (1.0, Uniform(from_s=1, to_s=2), Lognormal(median_s=3))


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"latency": {"run": -1}}, ("latency", "run", "fixed")),
        ({"latency": {"run": {"from_s": 2, "to_s": 1}}}, ("latency", "run", "uniform")),
        ({"latency": {"run": {"median": 1}}}, ("latency", "run", "uniform", "from_s")),
        ({"faults": {"hang": 1.5}}, ("faults", "hang")),
        ({"faults": {"hangs": 1}}, ("faults", "hangs")),
        ({"faults": {"hang": 0.6, "drop_after": 0.6}}, ("faults",)),
        ({"faults": {"outages": [{"from_s": 5, "to_s": 5}]}}, ("faults", "outages", 0)),
        ({"seeds": 1}, ("seeds",)),
    ],
)
def test_wrong_settings_are_refused_with_their_place(wrong: dict[str, Any], where: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**wrong)
    assert where in [error["loc"] for error in caught.value.errors()]


def test_a_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(settings(api_key="sk-secret"))


@pytest.mark.parametrize(
    ("spread", "median"), [(2.0, 2.0), (Uniform(from_s=1, to_s=3), 2.0), (Lognormal(median_s=2, sigma=1), 2.0)]
)
def test_durations_follow_their_distribution(spread: Any, median: float) -> None:
    rng = Random(1)
    drawn = sorted(draw_duration(spread, rng) for _ in range(2000))
    assert drawn[0] >= 0
    assert drawn[1000] == pytest.approx(median, rel=0.1)


def test_the_same_seed_draws_the_same_faults() -> None:
    faults = {"rate_limited": 0.2, "hang": 0.2, "refusal": 0.2, "ill_typed": 0.2, "poll_500": 0.2}
    first, again, other = (FaultPlan(settings(seed=seed, faults=faults)) for seed in (7, 7, 8))
    assert [first.of_create(n) for n in range(50)] == [again.of_create(n) for n in range(50)]
    assert [first.of_poll(n) for n in range(50)] == [again.of_poll(n) for n in range(50)]
    assert [first.of_create(n) for n in range(50)] != [other.of_create(n) for n in range(50)]


def test_faults_strike_at_their_rate() -> None:
    plan = FaultPlan(settings(faults={"rate_limited": 0.1, "slow_down": 0.05}))
    refusals = [plan.of_create(n).refusal for n in range(4000)]
    assert refusals.count("rate_limited") == pytest.approx(400, rel=0.2)
    assert refusals.count("slow_down") == pytest.approx(200, rel=0.2)


def test_switching_a_fault_on_changes_nothing_drawn_of_other_groups() -> None:
    plain, harder = (
        FaultPlan(settings(faults=faults)) for faults in ({"refusal": 0.3}, {"refusal": 0.3, "hang": 0.5})
    )
    assert [plain.of_create(n).ending for n in range(50)] == [harder.of_create(n).ending for n in range(50)]
    assert [plain.of_create(n).run_s for n in range(50)] == [harder.of_create(n).run_s for n in range(50)]


def test_what_is_drawn_never_changes() -> None:
    # Rehearsals are written with a seed and expect its faults: a change here breaks them.
    faults = {"rate_limited": 0.2, "hang": 0.2, "refusal": 0.2, "ill_typed": 0.2, "poll_500": 0.2, "poll_drop": 0.2}
    latency = {"reply": {"from_s": 0, "to_s": 1}}
    plan = FaultPlan(settings(seed=7, latency=latency, faults=faults))
    second, fifth = plan.of_create(2), plan.of_create(5)
    assert (second.refusal, second.delivery, second.ending, second.quirk) == ("rate_limited", None, None, None)
    assert (fifth.refusal, fifth.delivery, fifth.ending, fifth.quirk) == (None, "hang", "refusal", "ill_typed")
    assert [fifth.queue_s, fifth.run_s] == pytest.approx([0.18209, 0.503691], abs=1e-6)
    assert [plan.of_poll(n) for n in range(1, 6)] == ["poll_drop", None, None, "poll_drop", "poll_500"]
    assert [plan.of_stream(n) for n in (1, 2)] == [(None, 3), (None, 5)]
    assert plan.of_line(2).run_s == pytest.approx(0.637498, abs=1e-6)
    assert plan.of_batch(1) == pytest.approx(0.121543, abs=1e-6)
    assert plan.reply_s("create", 1) == pytest.approx(0.961684, abs=1e-6)
