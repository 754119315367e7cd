"""What differs between our charges and the provider's account is explained as far as the figures show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.app.reconcile.matching import OwnDay, Reason, Reconciliation, Tokens, reconcile
from orchestrator.app.reconcile.text import reconciliation_object, reconciliation_text
from orchestrator.core.money import Bound
from orchestrator.provider.provider_account import ProviderAccount, ReportedCost, ReportedUsage

DOLLAR = 10**12
MON, TUE, WED = "2026-11-16", "2026-11-17", "2026-11-18"


def own(day: str = MON, cost: int = DOLLAR, *, model: str = "gpt-5-mini", unknown: int = 0, bound: int = 0) -> OwnDay:
    tokens = Tokens(requests=10, input_tokens=1_000, cached_tokens=100, output_tokens=500)
    return OwnDay(day=day, model=model, tokens=tokens, cost_pusd=cost, unknown=unknown, bound=Bound(bound))


def costs(*amounts: tuple[str, int], days: tuple[str, ...] = (MON, TUE)) -> ProviderAccount:
    reported = tuple(ReportedCost(day=day, amount_pusd=amount) for day, amount in amounts)
    return ProviderAccount(costs=reported, usage=None, days=frozenset(days))


def used(day: str = MON, model: str | None = "gpt-5-mini", **changes: int) -> ReportedUsage:
    values: dict[str, Any] = {"requests": 10, "input_tokens": 1_000, "cached_tokens": 100, "output_tokens": 500}
    return ReportedUsage(day=day, model=model, **(values | changes))


def usage(*reported: ReportedUsage, cost: int | None = None) -> ProviderAccount:
    amounts = None if cost is None else (ReportedCost(day=MON, amount_pusd=cost),)
    return ProviderAccount(costs=amounts, usage=reported, days=frozenset({MON}))


def reasons(found: Reconciliation) -> list[tuple[str, Reason]]:
    return [(line.day, line.reason) for line in found.costs] + [(line.day, line.reason) for line in found.usage]


def test_the_same_but_for_rounding_agrees() -> None:
    found = reconcile([own(), own(model="gpt-5", cost=5)], costs((MON, DOLLAR + 400_000)))
    assert reasons(found) == [(MON, Reason.AGREES)]
    assert found.costs[0].own_pusd == DOLLAR + 5
    assert found.agrees


def test_each_amount_of_the_account_may_be_rounded() -> None:
    parts = [(MON, DOLLAR // 4 + 900_000)] * 4
    assert reasons(reconcile([own()], costs(*parts))) == [(MON, Reason.AGREES)]
    assert reasons(reconcile([own()], costs((MON, DOLLAR + 3_600_000)))) == [(MON, Reason.ELSEWHERE)]


def test_more_is_explained_by_what_is_unknown_here_up_to_its_bound() -> None:
    ours = [own(unknown=2, bound=DOLLAR // 2)]
    assert reasons(reconcile(ours, costs((MON, DOLLAR + DOLLAR // 2)))) == [(MON, Reason.UNKNOWN_HERE)]
    found = reconcile(ours, costs((MON, DOLLAR + DOLLAR // 2 + 10**8)))
    assert reasons(found) == [(MON, Reason.ELSEWHERE)]
    assert not found.agrees


def test_any_amount_can_be_of_a_response_without_a_bound() -> None:
    found = reconcile([replace(own(unknown=1), bound=Bound(0, 1))], costs((MON, 9 * DOLLAR)))
    assert reasons(found) == [(MON, Reason.UNKNOWN_HERE)]
    [line] = reconciliation_object(found)["costs"]
    assert (line["cost_unknown_upper_bound_usd"], line["cost_unbounded"]) == (None, 1)
    assert "no bound is known" in reconciliation_text(found).plain


def test_another_cost_of_the_same_tokens_is_explained_by_what_is_estimated_here() -> None:
    ours = [replace(own(), estimated_pusd=DOLLAR // 4)]
    assert reasons(reconcile(ours, usage(used(), cost=DOLLAR - DOLLAR // 5)))[0] == (MON, Reason.ESTIMATED_HERE)
    assert reasons(reconcile(ours, usage(used(), cost=DOLLAR + DOLLAR // 5)))[0] == (MON, Reason.ESTIMATED_HERE)
    assert reasons(reconcile(ours, usage(used(), cost=DOLLAR // 2)))[0] == (MON, Reason.PRICE)


def test_less_is_not_reported_yet() -> None:
    found = reconcile([own()], costs((MON, DOLLAR // 3)))
    assert reasons(found) == [(MON, Reason.NOT_REPORTED)]
    assert found.costs[0].difference_pusd == DOLLAR // 3 - DOLLAR


def test_what_ran_over_midnight_is_reported_on_another_day() -> None:
    ours = [own(MON, 3 * DOLLAR), own(TUE, DOLLAR)]
    found = reconcile(ours, costs((MON, 2 * DOLLAR), (TUE, 2 * DOLLAR)))
    assert reasons(found) == [(MON, Reason.ANOTHER_DAY), (TUE, Reason.ANOTHER_DAY)]
    assert found.agrees
    found = reconcile(ours, costs((MON, 2 * DOLLAR), (TUE, 3 * DOLLAR)))
    assert reasons(found) == [(MON, Reason.NOT_REPORTED), (TUE, Reason.ELSEWHERE)]


def test_a_day_of_others_alone_is_theirs() -> None:
    found = reconcile([own()], costs((MON, DOLLAR), (TUE, 7)))
    assert reasons(found) == [(MON, Reason.AGREES), (TUE, Reason.AGREES)], "less than rounding"
    assert reasons(reconcile([], costs((TUE, DOLLAR)))) == [(TUE, Reason.ELSEWHERE)]


def test_days_that_the_account_does_not_cover_are_named_and_not_compared() -> None:
    found = reconcile([own(MON), own(WED)], costs((MON, DOLLAR)))
    assert reasons(found) == [(MON, Reason.AGREES)]
    assert found.uncovered == (WED,)
    assert not found.agrees


def test_tokens_are_compared_by_model() -> None:
    ours = [own(), own(model="gpt-5")]
    found = reconcile(ours, usage(used(), used(model="gpt-5", input_tokens=900), used(model="o3")))
    assert [(line.model, line.reason) for line in found.usage] == [
        ("gpt-5", Reason.NOT_REPORTED),
        ("gpt-5-mini", Reason.AGREES),
        ("o3", Reason.ELSEWHERE),
    ]


def test_an_account_that_does_not_separate_models_is_compared_in_sum() -> None:
    both = used(model=None, requests=20, input_tokens=2_000, cached_tokens=200, output_tokens=1_000)
    found = reconcile([own(), own(model="gpt-5")], usage(both))
    assert [(line.model, line.reason) for line in found.usage] == [(None, Reason.AGREES)]


def test_attempts_without_usage_may_have_used_what_the_account_has_more() -> None:
    found = reconcile([own(unknown=1)], usage(used(output_tokens=700)))
    assert reasons(found) == [(MON, Reason.UNKNOWN_HERE)]


def test_the_same_tokens_at_another_cost_have_another_price() -> None:
    found = reconcile([own()], usage(used(), cost=DOLLAR * 2))
    assert reasons(found) == [(MON, Reason.PRICE), (MON, Reason.AGREES)]
    assert not found.agrees
