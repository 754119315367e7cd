"""Our reading of the published prices agrees with their publisher's calculation, where that is reliable."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product

import pytest
from genai_prices import Usage as PublishedUsage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, TieredPrices

from orchestrator.core.model import ToolUse, Usage
from orchestrator.policy.pricing.price_rules import Fees
from orchestrator.policy.pricing.prices import PriceBook, charge
from orchestrator.policy.pricing.published import published_rates
from orchestrator.policy.pricing.rates import per_token, strip_date

DAY = date(2026, 11, 18)
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
OPENAI = next(provider for provider in providers if provider.id == "openai")
PRICED = [info for info in OPENAI.models if published_rates(info.id, "default", DAY) is not None]
CONTEXT = {
    "default": None,
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "batch": {"processing": "batch"},
}


def test_most_models_are_priced() -> None:
    assert len(PRICED) > 60


@pytest.mark.parametrize("info", PRICED, ids=lambda info: info.id)
def test_each_published_price_is_read_as_by_its_publisher(info: ModelInfo) -> None:
    book = PriceBook()
    for tier, size in product(CONTEXT, (0, 1, 271_999, 272_000, 272_001, 900_000)):
        price = book.price(info.id, tier, at=NOON.timestamp(), input_tokens=size)
        if price is None or price.estimated:
            continue  # the publisher's calculation guesses; see the module
        usage = Usage(size, size // 3, size // 5, 1_234)
        theirs = PublishedUsage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        total = info.calc_price(theirs, OPENAI, genai_request_timestamp=NOON, price_context=CONTEXT[tier]).total_price
        assert Decimal(charge(usage, ToolUse(), price)).scaleb(-12) == total, (tier, size)


def test_no_published_tier_exceeds_the_bound_of_an_unknown_one() -> None:
    for info, tier in product(PRICED, ("flex", "priority", "batch", "ultrafast")):
        standard, rates = (published_rates(info.id, each, DAY) for each in ("default", tier))
        if rates is None:
            continue
        assert standard is not None
        assert [above for above, _ in rates.steps] == [above for above, _ in standard.steps]
        for (_, ours), (_, base) in zip(rates.steps, standard.steps, strict=True):
            assert base is not None
            if ours is not None:
                bound = base.times(6).inferred()
                assert bound.at_least(ours) == bound


def test_our_fees_are_the_published_ones() -> None:
    fees = Fees()
    for info in PRICED:
        stated = vars(info.get_prices(NOON))
        assert stated.get("web_searches_kcount", 10) * 10**9 == fees.web_search
        assert stated.get("storage_searches_kcount", Decimal("2.5")) * 10**9 == fees.file_search


def test_long_context_starts_at_the_documented_length() -> None:
    starts = {
        step.start
        for info in PRICED
        for price in vars(info.get_prices(NOON)).values()
        if isinstance(price, TieredPrices)
        for step in price.tiers
    }
    assert starts == {272_000}


def test_a_dated_snapshot_is_exact_only_if_the_list_names_it() -> None:
    def is_estimated(model: str) -> bool:
        rates = published_rates(model, "default", DAY)
        assert rates is not None
        rate = rates.steps[0][1]
        assert rate is not None
        return rate.estimated

    assert not is_estimated("gpt-5-mini-2025-08-07")  # listed
    assert not is_estimated("gpt-6-sol-2026-09-22")  # by a rule for dates
    assert not is_estimated("gpt-5-nano-2025-08-07")  # by a prefix followed by a date
    assert is_estimated("gpt-5-nano-fancy")  # by the same prefix
    assert is_estimated("gpt-5-mini-2026-01-01")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-5-mini", "gpt-5-mini"),
        ("gpt-5-mini-2025-13-07", "gpt-5-mini-2025-13-07"),
        ("gpt-5-mini-2025-08-07-x", "gpt-5-mini-2025-08-07-x"),
        ("o3-2025-04-16", "o3"),
    ],
)
def test_only_a_date_at_the_end_is_removed(model: str, name: str) -> None:
    assert strip_date(model) == name


def test_prices_are_read_to_the_picodollar_or_not_at_all() -> None:
    assert per_token(Decimal("0.0025")) == 2_500
    for unreadable in ("0.0000001", "-1", "NaN", "Infinity"):
        with pytest.raises(ValueError, match="at most 6 decimals"):
            per_token(Decimal(unreadable))
