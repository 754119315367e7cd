"""Forecasts are ranges that hold the true figure, and say what they rest on."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.app.forecast.estimates import (
    Basis,
    LeastTime,
    Span,
    Variant,
    basis,
    estimate,
    least_time,
    variants,
)
from orchestrator.app.forecast.request_size import Counting, Measured, RequestSize, Ruler
from orchestrator.core.model import PastUse
from orchestrator.policy.pricing.price_rules import PriceRules
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.pricing.tokens import TokenCounter

AT = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
MILLION = 10**6
# gpt-5-mini: 0.25 dollars per million tokens of input, 0.025 cached, 2 of output; in picodollars a token.
IN, CACHED, OUT = 250_000, 25_000, 2_000_000


def a_size(**changes: Any) -> RequestSize:
    size = RequestSize(
        model="gpt-5-mini", tier=None, window=None, input_tokens=1_000, shared_tokens=0, max_output_tokens=300
    )
    return replace(size, **changes)


def measured(*sizes: RequestSize, rows: int | None = None, **changes: Any) -> Measured:
    known = Measured(sizes=sizes, rows=len(sizes) if rows is None else rows, counting=Counting.PROVIDER)
    return replace(known, **changes)


def past_of(outputs: list[int], *, responses: int | None = None, **sums: int) -> PastUse:
    return PastUse(
        requests=len(outputs),
        responses=len(outputs) if responses is None else responses,
        input_tokens=sums.pop("input_tokens", 1_000 * len(outputs)),
        output_tokens=sum(outputs),
        output_squares=sum(tokens * tokens for tokens in outputs),
        **sums,
    )


PRICES = PriceBook()

# ── from the cap alone ────────────────────────────────────────────────────────────────────────────────────────


def test_without_anything_known_an_answer_is_between_nothing_and_its_cap() -> None:
    found = estimate(measured(a_size(), a_size(max_output_tokens=100)), PRICES, at=AT)
    assert found.input_tokens == Span(low=2_000, likely=2_000, high=2_000)
    assert found.output_tokens == Span(low=0, likely=None, high=400)
    assert found.cost == Span(low=2_000 * IN, likely=None, high=2_000 * IN + 400 * OUT)
    assert not found.price_estimated


def test_an_answer_that_is_asked_for_again_may_cost_both_times() -> None:
    found = estimate(measured(a_size()), PRICES, at=AT, raised_to=1_000)
    assert found.input_tokens.high == 2_000
    assert found.output_tokens.high == 1_300
    assert found.cost is not None
    assert found.cost.high == 2_000 * IN + 1_300 * OUT


def test_without_a_cap_there_is_no_end() -> None:
    without = measured(a_size(), a_size(max_output_tokens=None))
    found = estimate(without, PRICES, at=AT)
    assert found.output_tokens == Span(low=0, likely=None, high=None)
    assert found.cost == Span(low=2_000 * IN, likely=None, high=None)
    assert basis(without, None) is Basis.NOTHING


def test_counts_that_may_be_wrong_widen_the_range() -> None:
    found = estimate(measured(a_size(), counting=Counting.HEURISTIC), PRICES, at=AT)
    assert found.input_tokens == Span(low=895, likely=1_000, high=1_105)


def test_what_the_provider_counts_corrects_the_sums() -> None:
    found = estimate(measured(a_size(), a_size(), correction=1.5), PRICES, at=AT)
    assert found.input_tokens.likely == 3_000
    assert found.cost is not None
    assert found.cost.low == 3_000 * IN


def test_a_sample_stands_for_all_and_is_less_certain() -> None:
    sizes = [a_size(input_tokens=900), a_size(input_tokens=1_100)] * 50
    found = estimate(measured(*sizes, rows=10_000), PRICES, at=AT)
    assert found.input_tokens.likely == 10_000_000
    assert 9_600_000 < found.input_tokens.low < 9_800_000
    assert found.output_tokens.high == 3_000_000


def test_a_beginning_that_requests_share_may_come_from_the_cache() -> None:
    found = estimate(measured(a_size(input_tokens=5_000, shared_tokens=4_000)), PRICES, at=AT)
    assert found.cost is not None
    assert found.cost.low == 1_000 * IN + 4_000 * CACHED
    assert found.cost.high == 5_000 * IN + 300 * OUT


def test_what_is_written_to_the_cache_may_cost_more() -> None:
    # gpt-6-luna: 0.10 input, 0.125 written, 0.50 output.
    found = estimate(measured(a_size(model="gpt-6-luna")), PRICES, at=AT)
    assert found.cost == Span(low=1_000 * 100_000, likely=None, high=1_000 * 125_000 + 300 * 500_000)


def test_each_request_has_the_price_of_its_own_length() -> None:
    # gpt-5.4: 2.5 and 15 dollars up to 272,000 tokens of input, 5 and 22.5 above.
    short = a_size(model="gpt-5.4", input_tokens=272_000, max_output_tokens=1_000)
    found = estimate(measured(short, replace(short, input_tokens=272_001)), PRICES, at=AT)
    assert found.cost is not None
    assert found.cost.low == 272_000 * 2_500_000 + 272_001 * 5_000_000
    assert found.cost.high == found.cost.low + 1_000 * 15_000_000 + 1_000 * 22_500_000


def test_a_model_without_a_price_has_tokens_but_no_cost() -> None:
    found = estimate(measured(a_size(), a_size(model="my-deployment")), PRICES, at=AT)
    assert found.cost is None
    assert found.input_tokens.likely == 2_000


def test_what_tools_find_has_no_end_before_it_is_known() -> None:
    found = estimate(measured(a_size(open_ended=True)), PRICES, at=AT)
    assert found.input_tokens == Span(low=1_000, likely=None, high=None)
    assert found.cost == Span(low=1_000 * IN, likely=None, high=None)


def test_nothing_to_send_costs_nothing() -> None:
    found = estimate(measured(), PRICES, at=AT)
    assert found.cost == Span(low=0, likely=None, high=0)


# ── from earlier runs ─────────────────────────────────────────────────────────────────────────────────────────


def test_answers_are_taken_to_be_as_long_as_before() -> None:
    past = past_of([100, 120, 140, 120] * 25)
    known = measured(*[a_size()] * 50)
    found = estimate(known, PRICES, at=AT, past=past)
    assert basis(known, past) is Basis.PAST
    assert found.output_tokens.likely == 6_000
    assert found.output_tokens.low == pytest.approx(6_000 - 300 - 3 * (200 * (50 + 25)) ** 0.5, abs=2)
    assert found.cost is not None
    assert found.cost.likely == 50_000 * IN + 6_000 * OUT


def test_all_attempts_of_earlier_requests_are_counted() -> None:
    past = past_of([300, 300], responses=4, input_tokens=4_000)
    found = estimate(measured(a_size()), PRICES, at=AT, past=past, raised_to=1_000)
    assert (found.input_tokens.likely, found.output_tokens.likely) == (2_000, 300)
    assert found.cost is not None
    assert found.cost.likely == 2_000 * IN + 300 * OUT


def test_the_cached_share_of_earlier_requests_is_counted() -> None:
    past = past_of([100] * 10, cached_tokens=5_000)
    found = estimate(measured(a_size()), PRICES, at=AT, past=past)
    assert found.cost is not None
    assert found.cost.likely == 500 * IN + 500 * CACHED + 100 * OUT
    assert found.cost.low < found.cost.likely


def test_what_tools_found_and_cost_before_is_counted() -> None:
    past = past_of([100] * 10, input_tokens=60_000, fees_pusd=10 * 20_000_000_000)
    found = estimate(measured(a_size(open_ended=True)), PRICES, at=AT, past=past)
    assert found.input_tokens == Span(low=1_000, likely=6_000, high=11_000)
    assert found.cost is not None
    assert found.cost.likely == 6_000 * IN + 100 * OUT + 20_000_000_000


def test_one_earlier_answer_says_next_to_nothing() -> None:
    found = estimate(measured(a_size()), PRICES, at=AT, past=past_of([100]))
    assert found.output_tokens.low == 0
    assert found.output_tokens.high is not None
    assert found.output_tokens.high >= 200


def test_runs_without_a_settled_request_say_nothing() -> None:
    known = measured(a_size())
    assert estimate(known, PRICES, at=AT, past=PastUse()) == estimate(known, PRICES, at=AT)
    assert basis(known, PastUse()) is Basis.CAP


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("pilot", [10, 50])
def test_the_range_holds_the_true_cost(seed: int, pilot: int) -> None:
    """Rows and answers of random length: the first few predict what all of them will cost."""
    rng = random.Random(seed)
    inputs = [rng.randint(100, 4_000) for _ in range(1_000)]
    outputs = [min(2_000, round(rng.lognormvariate(5, 0.6))) for _ in inputs]
    truth = sum(inputs) * IN + sum(outputs) * OUT
    known = measured(*(a_size(input_tokens=tokens, max_output_tokens=2_000) for tokens in inputs))
    for past in (None, past_of(outputs[:pilot], input_tokens=sum(inputs[:pilot]))):
        cost = estimate(known, PRICES, at=AT, past=past).cost
        assert cost is not None
        assert cost.high is not None
        assert cost.low <= truth <= cost.high


# ── other models and tiers ────────────────────────────────────────────────────────────────────────────────────


def test_the_same_requests_at_other_prices() -> None:
    prices = PriceBook(PriceRules(windows={"8h": 1}))  # type: ignore[dict-item]
    tried = variants(["gpt-5-mini", "gpt-5-nano"], prices.windows)
    assert [(each.model, each.tier, each.window) for each in tried[:4]] == [
        ("gpt-5-mini", "default", None),
        ("gpt-5-mini", "flex", None),
        ("gpt-5-mini", "batch", None),
        ("gpt-5-mini", "default", "8h"),
    ]
    costs = [estimate(measured(a_size()), prices, at=AT, variant=each).cost for each in tried]
    lows = [cost.low for cost in costs if cost is not None]
    assert lows[:4] == [1_000 * IN, 500 * IN, 500 * IN, 1_000 * IN]
    assert lows[4:6] == [1_000 * 50_000, 500 * 50_000]


def test_a_tier_without_a_price_is_said_to_have_none() -> None:
    assert estimate(measured(a_size()), PRICES, at=AT, variant=Variant(model="o3-pro", tier="flex")).cost is None


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tightest_limit_sets_the_least_time() -> None:
    known = measured(*[a_size()] * 600)

    def least(rpm: int | None, tpm: int | None, past: PastUse | None = None) -> LeastTime:
        return least_time(known, requests_per_minute=rpm, tokens_per_minute=tpm, max_in_flight=10, past=past)

    assert least(None, None) == LeastTime(seconds=None, held_by=None)
    assert least(600, None) == LeastTime(seconds=60.0, held_by="the requests per minute")
    assert least(600, 390_000) == LeastTime(seconds=120.0, held_by="the tokens per minute")
    slow = replace(past_of([100] * 4), seconds=40.0)
    assert least(600, None, slow) == LeastTime(seconds=610.0, held_by="the places for open responses")


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_measured_by_what_decides_its_cost() -> None:
    ruler = Ruler(TokenCounter(exact=False))
    size = ruler.measure(
        {
            "model": "gpt-5-mini",
            "input": "hi",
            "service_tier": "flex",
            "background_options": {"completion_window": "8h"},
            "max_output_tokens": 50,
        }
    )
    assert size == RequestSize(
        model="gpt-5-mini", tier="flex", window="8h", input_tokens=7, shared_tokens=0, max_output_tokens=50
    )
    assert ruler.measure({"model": "m", "input": "hi", "tools": [{"type": "web_search"}]}).open_ended


def test_a_shared_beginning_is_found_where_it_is_long_enough_for_the_cache() -> None:
    rules = "Weigh each word of the customer with care. " * 200

    def shared(instructions: str) -> list[int]:
        ruler = Ruler()
        texts = ("The first one.", "Another one.")
        return [
            ruler.measure({"model": "m", "instructions": instructions, "input": text}).shared_tokens for text in texts
        ]

    first, second = shared(rules)
    assert first == 0
    assert 1_600 < second < 2_000
    assert shared("Be brief.") == [0, 0]
