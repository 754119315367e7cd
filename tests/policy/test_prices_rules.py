"""A user's own prices, factors and fees take precedence over the published ones, from their first day on."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from orchestrator.core.model import Response, UnitPrice, Usage
from orchestrator.policy.pricing.price_rules import Fees, LongRate, PriceOverride, PriceRules, UnpricedTier
from orchestrator.policy.pricing.prices import PriceBook


def timestamp(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


NOW = timestamp("2026-11-18")


def usd(amount: str) -> Decimal:
    return Decimal(amount)


def override(model: str, price: str, *, tier: str = "default", since: date | None = None) -> PriceOverride:
    """Returns a price for input, and ten times that for output."""
    return PriceOverride(model=model, tier=tier, effective_from=since, input=usd(price), output=usd(price) * 10)


def book(*overrides: PriceOverride) -> PriceBook:
    return PriceBook(PriceRules(overrides=overrides, version="sha256:0123"))


def dollars_in(price: UnitPrice | None) -> float | None:
    return None if price is None else price.input / 10**6


def test_an_override_takes_precedence_and_is_named_as_the_source() -> None:
    price = book(override("gpt-5-mini", "0.2")).price("gpt-5-mini", "default", at=NOW, input_tokens=1)
    assert price is not None
    assert (price.input, price.cached, price.cache_write, price.output) == (200_000, 200_000, 200_000, 2_000_000)
    assert (price.source, price.version, price.estimated) == ("prices.yaml", "sha256:0123", False)


def test_an_override_of_one_tier_leaves_the_others_alone() -> None:
    prices = book(override("gpt-5-mini", "0.2", tier="flex"))
    assert dollars_in(prices.price("gpt-5-mini", "flex", at=NOW, input_tokens=1)) == 0.2
    assert dollars_in(prices.price("gpt-5-mini", "default", at=NOW, input_tokens=1)) == 0.25


def test_an_override_holds_from_midnight_until_the_next_override() -> None:
    prices = book(
        override("gpt-5-mini", "0.3", since=date(2026, 12, 1)), override("gpt-5-mini", "0.4", since=date(2027, 1, 1))
    )

    def at(when: str) -> float | None:
        return dollars_in(prices.price("gpt-5-mini", "default", at=timestamp(when), input_tokens=1))

    assert at("2026-11-30T23:59:59.999") == 0.25  # the published one
    assert at("2026-12-01T00:00:00") == 0.3
    assert at("2026-12-31T23:59:59.999") == 0.3
    assert at("2027-01-01T00:00:00") == 0.4


def test_the_best_fitting_name_wins_then_the_newest_then_the_last() -> None:
    prices = book(
        override("gpt-5-mini-2025-08-07", "6"),
        override("gpt-5-mini", "7"),
        override("gpt-5*", "8", since=date(2026, 11, 1)),
        override("gpt-5*", "3"),
        override("*", "9"),
        override("local", "5"),
        override("local", "4"),
    )

    def at(model: str) -> float | None:
        return dollars_in(prices.price(model, "default", at=NOW, input_tokens=1))

    assert at("gpt-5-mini-2025-08-07") == 6
    assert at("gpt-5-mini-2026-01-01") == 7
    assert at("gpt-5-nano") == 8
    assert at("anything") == 9
    assert at("local") == 4


def test_an_override_prices_a_model_that_is_not_published() -> None:
    prices = book(override("ft:gpt-4.1-2025-04-14:acme::x1", "3"))
    assert dollars_in(prices.price("ft:gpt-4.1-2025-04-14:acme::x1", "default", at=NOW, input_tokens=1)) == 3
    assert prices.price("ft:gpt-4.1-2025-04-14:acme::x2", "default", at=NOW, input_tokens=1) is None


def test_a_free_model_has_a_known_cost_of_zero() -> None:
    price = book(override("llama-*", "0")).price("llama-4", None, at=NOW, input_tokens=10**6)
    assert price is not None
    assert (price.input, price.output) == (0, 0)


def test_a_price_for_the_requested_name_covers_the_model_that_answers() -> None:
    """A deployment at a gateway has its own name, and its responses name the model behind it."""
    prices = book(override("our-deployment", "0.2"))
    response = Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=b"{}",
        model="gpt-5-mini-2025-08-07",
        service_tier="default",
        usage=Usage(1_000_000, 0, 0, 0),
    )
    charge = prices.charge_response(response, requested_model="our-deployment", requested_tier=None, at=NOW)
    assert charge.cost_pusd == 200_000_000_000
    charge = prices.charge_response(response, requested_model="another", requested_tier=None, at=NOW)
    assert charge.cost_pusd == 250_000_000_000


def test_an_override_may_price_long_inputs() -> None:
    long = LongRate(input=usd("3"), output=usd("30"), above=1_000)
    prices = book(PriceOverride(model="gpt-6-sol", input=usd("1"), output=usd("10"), long=long))
    assert dollars_in(prices.price("gpt-6-sol", "default", at=NOW, input_tokens=1_000)) == 1
    assert dollars_in(prices.price("gpt-6-sol", "default", at=NOW, input_tokens=1_001)) == 3


def test_an_override_without_a_price_for_long_inputs_does_not_make_them_cheaper() -> None:
    prices = book(override("gpt-6-sol", "1"))
    short = prices.price("gpt-6-sol", "default", at=NOW, input_tokens=272_000)
    long = prices.price("gpt-6-sol", "default", at=NOW, input_tokens=272_001)
    assert short is not None
    assert long is not None
    assert (short.input, short.estimated) == (1_000_000, False)
    assert (long.input, long.cached, long.output, long.estimated) == (4_000_000, 1_000_000, 15_000_000, True)


# ── Completion windows, regions, tiers without a price ────────────────────────────────────────────────────────


def test_a_completion_window_is_discounted_by_its_factor_and_marked() -> None:
    prices = PriceBook(PriceRules(windows={"8h": usd("0.6")}))
    price = prices.price("gpt-5-mini", "default", at=NOW, input_tokens=1, window="8h")
    assert price is not None
    assert (price.input, price.cached, price.output, price.estimated) == (150_000, 15_000, 1_200_000, True)
    assert (price.tier, price.source) == ("default:8h", "genai-prices")
    soonest = prices.price("gpt-5-mini", "default", at=NOW, input_tokens=1, window="soonest")
    assert soonest is not None
    assert (soonest.tier, soonest.input) == ("default", 250_000)
    flex = prices.price("gpt-5-mini", "flex", at=NOW, input_tokens=1, window="8h")
    assert flex is not None
    assert (flex.tier, flex.input) == ("flex", 125_000), "a window belongs to the default tier"


def test_a_completion_window_without_a_factor_costs_at_most_the_full_price() -> None:
    response = Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=b"{}",
        model="gpt-5-mini",
        service_tier="default",
        usage=Usage(1_000_000, 0, 0, 0),
    )
    charge = PriceBook().charge_response(
        response, requested_model="gpt-5-mini", requested_tier=None, at=NOW, window="4h", worst_case=9 * 10**12
    )
    assert (charge.cost_pusd, charge.upper_bound_pusd) == (None, 250_000_000_000)


@pytest.mark.parametrize(("window", "usd_per_million"), [("2h", "0.7"), ("8h", "0.6"), ("soonest", "1"), (None, "1")])
def test_the_published_windows_are_discounted_and_marked(window: str | None, usd_per_million: str) -> None:
    price = PriceBook().price("gpt-6.1-terra", None, at=NOW, input_tokens=1, window=window)
    assert price is not None
    assert price.input == usd(usd_per_million) * 10**6
    assert price.estimated or window in (None, "soonest")


def test_a_stated_price_for_a_completion_window_is_exact() -> None:
    price = book(override("gpt-5-mini", "0.1", tier="default:8h")).price(
        "gpt-5-mini", "default", at=NOW, input_tokens=1, window="8h"
    )
    assert price is not None
    assert (price.input, price.tier, price.estimated) == (100_000, "default:8h", False)


def test_a_fractional_price_is_rounded_up_and_marked() -> None:
    prices = PriceBook(PriceRules(regional={"gpt-5-nano*": usd("1.0000001"), "gpt-5*": usd("1.1")}))
    odd = prices.price("gpt-5-nano", "default", at=NOW, input_tokens=1)
    even = prices.price("gpt-5-mini", "default", at=NOW, input_tokens=1)
    other = prices.price("gpt-6-luna", "default", at=NOW, input_tokens=1)
    assert odd is not None
    assert even is not None
    assert other is not None
    assert (odd.input, odd.output, odd.estimated) == (50_001, 400_001, True)
    assert (even.input, even.cached, even.output, even.estimated) == (275_000, 27_500, 2_200_000, False)
    assert other.input == 100_000


def test_a_regional_factor_does_not_apply_to_a_users_price() -> None:
    rules = PriceRules(overrides=(override("gpt-5-mini", "0.2"),), regional={"*": usd("1.1")})
    assert dollars_in(PriceBook(rules).price("gpt-5-mini", "default", at=NOW, input_tokens=1)) == 0.2


def test_a_tier_without_a_price_is_charged_as_default_if_the_user_says_so() -> None:
    prices = PriceBook(PriceRules(unpriced_tier=UnpricedTier.DEFAULT))
    price = prices.price("gpt-5-nano", "priority", at=NOW, input_tokens=1)
    assert price is not None
    assert (price.tier, price.input, price.estimated) == ("priority", 50_000, True)
    assert prices.price("gpt-7-nova", "priority", at=NOW, input_tokens=1) is None


def test_the_user_can_set_fees() -> None:
    price = PriceBook(PriceRules(fees=Fees(web_search=7, file_search=8, code_session=9))).price(
        "gpt-5", "default", at=NOW, input_tokens=1
    )
    assert price is not None
    assert (price.fee_web_search, price.fee_file_search, price.fee_code_session) == (7, 8, 9)


@pytest.mark.parametrize("missing_tier", [None, "", "auto"])
def test_a_price_without_a_tier_is_the_default_one_and_marked(missing_tier: str | None) -> None:
    price = PriceBook().price("gpt-5-mini", missing_tier, at=NOW, input_tokens=1)
    assert price is not None
    assert (price.tier, price.estimated) == ("default", True)
