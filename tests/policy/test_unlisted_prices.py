"""The prices that come with the product for the newest models."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources

import pytest

from orchestrator.policy.pricing.price_rules import PriceOverride, PriceRules
from orchestrator.policy.pricing.prices import Bounds, PriceBook
from orchestrator.policy.pricing.published import published_rates
from orchestrator.policy.pricing.unlisted import unlisted_prices

NOW = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
MODELS = sorted({each.model for each in unlisted_prices().overrides})


def test_the_file_names_its_source_and_its_day() -> None:
    text = resources.files("orchestrator.policy.pricing").joinpath("unlisted_models.yaml").read_text()
    assert re.search(r"^# source: \S+", text, re.MULTILINE)
    assert date.fromisoformat(unlisted_prices().version) <= date(2026, 12, 1)


@pytest.mark.parametrize("model", MODELS)
def test_what_the_price_list_knows_by_now_is_not_in_the_file(model: str) -> None:
    assert published_rates(model, "default", date(2026, 12, 1)) is None, "remove it: the installed list has a price"


@pytest.mark.parametrize("model", [*MODELS, *(f"{model}-2026-11-17" for model in MODELS)])
def test_the_newest_models_can_be_charged_and_budgeted(model: str) -> None:
    book = PriceBook()
    price = book.price(model, None, at=NOW, input_tokens=1)
    assert price is not None
    assert (price.source, price.version) == ("orchestrator", unlisted_prices().version)
    # Twice the price of input above 272,000 tokens, and 1.5 times that of output.
    long = book.price(model, None, at=NOW, input_tokens=272_001)
    assert long is not None
    assert (long.input, long.cached, long.output) == (2 * price.input, 2 * price.cached, 3 * price.output // 2)
    assert book.worst_case(model, None, Bounds(1_000, 100), at=NOW) is not None
    batch, fast = (book.price(model, tier, at=NOW, input_tokens=1) for tier in ("batch", "fast"))
    assert batch is not None
    assert fast is not None
    assert (2 * batch.input, fast.output) == (price.input, 2 * price.output)


def test_a_price_of_ones_own_takes_precedence() -> None:
    own = PriceOverride(model="gpt-6.2-sol", input=Decimal(1), output=Decimal(1))
    price = PriceBook(PriceRules(overrides=(own,))).price("gpt-6.2-sol", None, at=NOW, input_tokens=1)
    assert price is not None
    assert (price.input, price.source) == (10**6, "prices.yaml")


def test_a_factor_of_the_region_and_a_window_apply_to_it() -> None:
    book = PriceBook(PriceRules(regional={"gpt-6*": Decimal("1.1")}))
    price = book.price("gpt-6.2-sol", None, at=NOW, input_tokens=1)
    window = PriceBook().price("gpt-6.2-sol", None, at=NOW, input_tokens=1, window="8h")
    assert price is not None
    assert window is not None
    assert (price.input, window.input, window.estimated) == (2_200_000, 1_200_000, True)


def test_a_price_that_was_not_seen_marks_its_charges() -> None:
    price = PriceBook().price("gpt-6.2-astra", None, at=NOW, input_tokens=1)
    assert price is not None
    assert price.estimated
    assert price.cache_write == 10_000_000


def test_a_tier_becomes_more_expensive_on_its_day() -> None:
    later = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
    prices = [PriceBook().price("gpt-6.2-sol", "ultrafast", at=at, input_tokens=1) for at in (later - 1, later)]
    assert [price and price.input for price in prices] == [6_000_000, 12_000_000]
