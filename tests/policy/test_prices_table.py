"""Costs calculated by hand from the published price list; the code computed no figure here.

Each case is a response as the provider reports it: its model and tier, day of the request, tokens (input, of which
cached, of which written, output), and the dollars it costs. A trailing ``~`` says that the price must be marked as
estimated.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import cycle, islice
from typing import Any

import pytest

from orchestrator.core.model import Charge, Response, ToolUse, UnitPrice, Usage
from orchestrator.core.money import format_usd, parse_usd
from orchestrator.policy.pricing.prices import PriceBook, charge

BOOK = PriceBook()
NOW = "2026-11-18"
AT = datetime(2026, 11, 18, tzinfo=UTC).timestamp()
NO_TOOLS = ToolUse()


def timestamp(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def charged(
    model: str | None,
    tier: str | None,
    tokens: tuple[int, int, int, int],
    *,
    day: str = NOW,
    asked: str = "gpt-5-mini",
    asked_tier: str | None = None,
    tool_use: ToolUse = NO_TOOLS,
    body: bytes = b"{}",
    window: str | None = None,
    worst_case: int | None = None,
) -> Charge:
    fresh_and_more, cached, written, output = tokens
    usage = Usage(fresh_and_more, cached, written, output, 0, fresh_and_more + output)
    response = Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=body,
        model=model,
        service_tier=tier,
        usage=usage,
        tool_use=tool_use,
    )
    return BOOK.charge_response(
        response,
        requested_model=asked,
        requested_tier=asked_tier,
        at=timestamp(day),
        window=window,
        worst_case=worst_case,
    )


BY_HAND = [
    # From the price list, with the arithmetic in USD per million tokens.
    ("gpt-5-mini", "default", NOW, (10_000, 4_000, 0, 2_000), "0.0056"),  # 6000·0.25 + 4000·0.025 + 2000·2
    ("gpt-5-mini", "flex", NOW, (10_000, 4_000, 0, 2_000), "0.0028"),
    ("gpt-5-mini", "priority", NOW, (10_000, 4_000, 0, 2_000), "0.01008"),  # 0.45, 0.045, 3.6
    ("gpt-5-mini", "fast", NOW, (10_000, 4_000, 0, 2_000), "0.01008"),
    ("gpt-5-mini", "batch", NOW, (10_000, 4_000, 0, 2_000), "0.0028"),
    ("gpt-5-mini", "standard", NOW, (10_000, 4_000, 0, 2_000), "0.0056"),
    ("gpt-5-mini-2025-08-07", "default", NOW, (21, 0, 0, 339), "0.00068325"),  # 21·0.25 + 339·2
    ("gpt-5-mini", "default", NOW, (1, 0, 0, 0), "0.00000025"),
    ("gpt-5-mini", "default", NOW, (0, 0, 0, 0), "0"),
    ("gpt-5", "default", NOW, (1_000_000, 400_000, 0, 1_000_000), "10.8"),  # 0.75 + 0.05 + 10: no long price
    ("gpt-5", "flex", NOW, (1_000_000, 400_000, 0, 1_000_000), "5.4"),
    ("gpt-5", "priority", NOW, (1_000_000, 400_000, 0, 1_000_000), "21.6"),
    ("gpt-5", "batch", NOW, (1_000_000, 400_000, 0, 1_000_000), "5.4"),
    ("gpt-5.1", "default", NOW, (8, 0, 0, 8), "0.00009"),  # 8·1.25 + 8·10
    ("gpt-5.2", "default", NOW, (1_000, 500, 0, 100), "0.0023625"),  # 500·1.75 + 500·0.175 + 100·14
    ("gpt-5.2", "priority", NOW, (1_000, 500, 0, 100), "0.004725"),
    ("gpt-5-nano", "default", NOW, (100_000, 0, 0, 1_000), "0.0054"),  # 0.05, 0.40
    ("gpt-5-nano-2025-08-07", "flex", NOW, (100_000, 0, 0, 1_000), "0.0027"),
    ("gpt-5-pro", "default", NOW, (1_000, 0, 0, 1_000), "0.135"),  # 15, 120
    ("gpt-5-pro", "batch", NOW, (1_000, 0, 0, 1_000), "0.0675"),
    ("gpt-5.4-mini", "priority", NOW, (1_000, 0, 0, 1_000), "0.0105"),  # 1.5, 9
    ("gpt-5.4-nano", "default", NOW, (1_000, 100, 0, 1_000), "0.001432"),  # 900·0.2 + 100·0.02 + 1000·1.25
    ("gpt-5.5", "default", NOW, (1_000, 0, 0, 1_000), "0.035"),  # 5, 30
    ("gpt-5.5", "priority", NOW, (1_000, 0, 0, 1_000), "0.0875"),  # ×2.5
    ("gpt-5.5-pro", "flex", NOW, (1_000, 0, 0, 1_000), "0.105"),  # 15, 90
    ("gpt-6-astra", "default", NOW, (1_000, 0, 0, 1_000), "0.06"),  # 10, 50
    ("gpt-6-luna", "default", NOW, (21, 0, 0, 339), "0.0001716"),  # 21·0.1 + 339·0.5
    ("gpt-6-luna", "flex", NOW, (21, 0, 0, 339), "0.0000858"),
    ("gpt-6.1-terra", "default", NOW, (1, 0, 0, 1), "0.000006"),  # 1 + 5
    ("gpt-4.1", "default", NOW, (100_000, 50_000, 0, 1_000), "0.133"),  # 50000·2 + 50000·0.5 + 1000·8
    ("gpt-4.1-mini", "priority", NOW, (1_000, 0, 0, 1_000), "0.0035"),  # ×1.75: 0.7, 2.8
    ("gpt-4o", "default", NOW, (1_000, 500, 0, 100), "0.002875"),  # 500·2.5 + 500·1.25 + 100·10
    ("gpt-4o", "priority", NOW, (1_000, 500, 0, 100), "0.0048875"),  # ×1.7
    ("gpt-4o-mini", "default", NOW, (1_000, 0, 0, 1_000), "0.00075"),
    ("o3-pro", "default", NOW, (1_000, 0, 0, 100), "0.028"),  # 20, 80
    ("o4-mini", "flex", NOW, (1_000, 1_000, 0, 0), "0.000138"),  # the published 0.138, not half of 0.275
    ("o3-deep-research", "default", NOW, (100_000, 50_000, 0, 10_000), "1.025"),  # 0.5 + 0.125 + 0.4
    # All input cached; cached and written together; written where no write price is published.
    ("gpt-5-mini", "default", NOW, (10_000, 10_000, 0, 0), "0.00025"),
    ("gpt-4.1-nano", "default", NOW, (1_000, 1_000, 0, 0), "0.000025"),
    ("gpt-5-pro", "default", NOW, (1_000, 1_000, 0, 0), "0.015"),  # no cached price: as input
    ("gpt-5.6", "default", NOW, (1_000, 200, 300, 400), "0.01158"),  # 500·4 + 200·0.4 + 300·5 + 400·20
    ("gpt-6.1-sol", "default", NOW, (100_000, 90_000, 10_000, 5_000), "0.084"),  # 0 + 9000 + 25000 + 50000
    ("gpt-6.1-sol", "flex", NOW, (100_000, 90_000, 10_000, 5_000), "0.042"),
    ("gpt-5-mini", "default", NOW, (1_000, 0, 1_000, 0), "0.00025"),
    # 272,000 input tokens are short, 272,001 are long, and then all of them are.
    ("gpt-5.4", "default", NOW, (272_000, 0, 0, 1_000), "0.695"),  # 272000·2.5 + 1000·15
    ("gpt-5.4", "default", NOW, (272_001, 0, 0, 1_000), "1.382505"),  # 272001·5 + 1000·22.5
    ("gpt-5.4", "default", NOW, (272_001, 272_000, 0, 1_000), "0.158505"),  # 1·5 + 272000·0.5 + 1000·22.5
    ("gpt-5.4", "flex", NOW, (272_000, 272_000, 0, 0), "0.03536"),  # 272000·0.13
    ("gpt-5.4", "flex", NOW, (272_001, 0, 0, 0), "0.6800025"),  # 272001·2.5
    ("gpt-5.4", "priority", NOW, (272_000, 0, 0, 10), "1.3603"),  # 272000·5 + 10·30
    ("gpt-5.4-pro", "default", NOW, (272_001, 0, 0, 1), "16.32033"),  # 272001·60 + 270
    ("gpt-5.5", "default", NOW, (300_000, 100_000, 0, 1_000), "2.145"),  # 200000·10 + 100000·1 + 1000·45
    ("gpt-6-sol", "default", NOW, (272_000, 0, 272_000, 0), "0.68"),  # 272000·2.5
    ("gpt-6-sol", "default", NOW, (272_001, 0, 272_001, 0), "1.360005"),  # 272001·5
    ("gpt-6-astra", "priority", NOW, (272_001, 0, 0, 1_000), "11.03004"),  # 272001·40 + 1000·150
    ("gpt-6.1-terra", "batch", NOW, (272_001, 272_001, 0, 0), "0.01360005"),  # 272001·0.05
    ("gpt-5.6-luna", "default", NOW, (272_001, 0, 272_001, 0), "0.1360005"),  # 272001·0.5
    # A price holds from midnight UTC of its day.
    ("gpt-5.6-sol", "default", "2026-08-20T23:59:59", (1_000, 200, 300, 400), "0.016475"),  # 5, 0.5, 6.25, 30
    ("gpt-5.6-sol", "default", "2026-08-21T00:00:00", (1_000, 200, 300, 400), "0.01158"),
    ("gpt-5.6-terra", "default", "2026-07-29", (1_000, 0, 0, 100), "0.004"),  # 2.5, 15
    ("gpt-5.6-terra", "default", "2026-07-30", (1_000, 0, 0, 100), "0.0032"),  # 2, 12
    ("o3", "default", "2025-06-09", (1_000, 0, 0, 1_000), "0.05"),  # 10, 40
    ("o3", "default", "2025-06-10", (1_000, 0, 0, 1_000), "0.01"),  # 2, 8
    ("gpt-6-sol-2026-09-22", "default", NOW, (1_000, 1_000, 0, 0), "0.0002"),  # a snapshot the list has a rule for
    # Priced, but inferred.
    ("gpt-5-mini-2026-01-01", "default", NOW, (10_000, 4_000, 0, 2_000), "0.0056~"),  # a snapshot that is not listed
    ("gpt-6.1-sol", "ultrafast", NOW, (100_000, 90_000, 10_000, 5_000), "0.504~"),  # ×6
    ("gpt-4.1", "batch", NOW, (1_000, 1_000, 0, 0), "0.001~"),  # no cached price at this tier: as its input
    ("gpt-5-mini", "default", NOW, (100, 150, 0, 0), "0.00000375~"),  # more cached than input: 150·0.025, no fresh
    ("gpt-5-mini", "auto", NOW, (10_000, 4_000, 0, 2_000), "0.0056~"),  # the response does not say its tier
    ("gpt-5-mini", None, NOW, (10_000, 4_000, 0, 2_000), "0.0056~"),
    (None, "default", NOW, (10_000, 4_000, 0, 2_000), "0.0056~"),  # nor its model: gpt-5-mini was requested
]


@pytest.mark.parametrize(("model", "tier", "day", "tokens", "usd"), BY_HAND)
def test_a_response_costs_what_the_price_list_says(
    model: str | None, tier: str | None, day: str, tokens: tuple[int, int, int, int], usd: str
) -> None:
    result = charged(model, tier, tokens, day=day)
    assert result.cost_pusd is not None
    assert result.price is not None
    assert format_usd(result.cost_pusd) + ("~" if result.price.estimated else "") == usd
    assert result.upper_bound_pusd is None


UNKNOWN = [
    # Without a price the cost is unknown and not zero; it may have a bound.
    ("gpt-7-nova", "default", NOW, (1_000, 0, 0, 0), None),  # unknown model
    ("ft:gpt-4o-mini-2024-07-18:acme::x1", "default", NOW, (1_000, 0, 0, 0), None),  # fine-tuned
    ("gpt-5-mini-preview", "default", NOW, (1_000, 0, 0, 0), None),  # only starts like one
    ("gpt-realtime", "default", NOW, (1_000, 0, 0, 0), None),  # billed by audio too
    ("text-embedding-3-small", "default", NOW, (1_000, 0, 0, 0), None),  # has no output price
    ("", "default", NOW, (1_000, 0, 0, 0), None),
    ("gpt-5-nano", "priority", NOW, (1_000, 0, 0, 1_000), "0.0027"),  # 6 × (1000·0.05 + 1000·0.4)
    ("gpt-5-mini", "scale", NOW, (1_000, 0, 0, 0), "0.0015"),  # 6 × 1000·0.25
    ("gpt-5-mini", "turbo", NOW, (1_000, 0, 0, 0), "0.0015"),  # an unknown tier is not the default one
    ("gpt-5-mini", "ultrafast", NOW, (1_000, 0, 0, 0), "0.0015"),
    ("gpt-4.1", "flex", NOW, (1_000, 0, 0, 0), "0.012"),  # 6 × 1000·2
    ("gpt-5.4", "priority", NOW, (272_001, 0, 0, 0), "8.16003"),  # no long price at this tier: 6 × 272001·5
    ("gpt-5-mini", "flex", "2026-10-11", (1_000, 0, 0, 0), "0.0015"),  # the list knows of it from 2026-10-12 on
]


@pytest.mark.parametrize(("model", "tier", "day", "tokens", "bound"), UNKNOWN)
def test_an_unknown_price_is_an_unknown_cost(
    model: str, tier: str, day: str, tokens: tuple[int, int, int, int], bound: str | None
) -> None:
    result = charged(model, tier, tokens, day=day, asked=model)
    assert (result.cost_pusd, result.price) == (None, None)
    assert result.upper_bound_pusd == (None if bound is None else parse_usd(bound))
    assert result.usage is not None, "the tokens are known all the same"


def test_the_tier_of_the_response_is_billed_not_the_requested_one() -> None:
    result = charged("gpt-5-mini", "default", (10_000, 4_000, 0, 2_000), asked_tier="priority")
    assert result.cost_pusd == parse_usd("0.0056")
    assert result.price is not None
    assert (result.price.tier, result.price.estimated) == ("default", False)


def test_without_a_tier_in_the_response_the_requested_one_is_billed_and_marked() -> None:
    result = charged("gpt-5-mini", None, (10_000, 4_000, 0, 2_000), asked_tier="flex")
    assert result.cost_pusd == parse_usd("0.0028")
    assert result.price is not None
    assert (result.price.tier, result.price.estimated) == ("flex", True)


PREVIEW = b'{"tools":[{"type":"web_search_preview_2025_03_11"}]}'
BOTH = b'{"tools":[{"type":"web_search"},{"type":"web_search_preview"}]}'
QUOTED = b'{"tools":[{"type":"web_search"}],"output":[{"text":"web_search_preview is older"}]}'


@pytest.mark.parametrize(
    ("model", "tool_use", "body", "usd"),
    [
        ("gpt-5", ToolUse(web_searches=3), b"{}", "0.03"),
        ("gpt-5", ToolUse(file_searches=4), b"{}", "0.01"),
        ("gpt-5", ToolUse(code_sessions=2), b"{}", "0.06"),
        ("gpt-5", ToolUse(web_searches=1, file_searches=1, code_sessions=1), b"{}", "0.0425"),
        ("gpt-5", ToolUse(web_searches=1), PREVIEW, "0.01"),
        ("gpt-4.1", ToolUse(web_searches=1), PREVIEW, "0.025"),  # a model that does not reason
        ("gpt-5-chat-latest", ToolUse(web_searches=1), PREVIEW, "0.025"),
        ("gpt-4.1", ToolUse(web_searches=1), BOTH, "0.025~"),  # the kind of search is unknown
        ("gpt-4.1", ToolUse(web_searches=1), QUOTED, "0.01"),  # the words alone are no preview search
        ("gpt-4.1-mini", ToolUse(web_searches=2), b"{}", "0.0264~"),  # 2 × (0.01 + 8000·0.4)
        ("gpt-4o-mini-2024-07-18", ToolUse(web_searches=1), b"{}", "0.0112~"),  # 0.01 + 8000·0.15
        ("gpt-4.1-mini", ToolUse(web_searches=1), PREVIEW, "0.025"),
    ],
)
def test_hosted_tools_cost_their_fees(model: str, tool_use: ToolUse, body: bytes, usd: str) -> None:
    result = charged(model, "default", (0, 0, 0, 0), tool_use=tool_use, body=body)
    assert result.cost_pusd is not None
    assert result.price is not None
    assert format_usd(result.cost_pusd) + ("~" if result.price.estimated else "") == usd


def test_a_generated_image_makes_the_cost_unknown() -> None:
    body = b'{"output":[{"type":"image_generation_call","id":"ig_1"}]}'
    result = charged("gpt-5", "default", (1_000, 0, 0, 0), body=body)
    assert (result.cost_pusd, result.upper_bound_pusd) == (None, None)
    mentioned = b'{"output":[{"type":"message","text":"image_generation_call"}]}'
    assert charged("gpt-5", "default", (1_000, 0, 0, 0), body=mentioned).cost_pusd == parse_usd("0.00125")


IMAGE_USAGE: dict[str, Any] = {
    "input_tokens": 100,
    "input_tokens_details": {"text_tokens": 60, "image_tokens": 40},
    "output_tokens": 272,
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 272},
    "cached_tokens": 0,
}


@pytest.mark.parametrize(
    ("model", "change", "usd"),
    [
        ("gpt-image-1", {}, "0.01158"),  # 60·5 + 40·10 + 272·40
        ("gpt-image-1.5", {}, "0.009324"),  # 60·5 + 40·8 + 272·32
        ("gpt-image-1", {"cached_tokens": None}, "0.01158~"),  # how much of it was cached is not reported
        ("gpt-image-1", {"input_tokens_details": None}, "0.01188~"),  # 100·10 + 272·40
        ("gpt-image-1.5", {"output_tokens_details": None}, "0.009324~"),
        ("gpt-image-1", {"input_tokens_details": {"text_tokens": 900}}, "0.01188~"),
        ("gpt-image-9", {}, None),
        (None, {}, None),
        ("gpt-image-1", {"output_tokens": 0}, None),  # an image without tokens: its usage is missing
    ],
)
def test_generated_images_cost_the_tokens_of_their_model(
    model: str | None, change: dict[str, Any], usd: str | None
) -> None:
    images = IMAGE_USAGE | change
    tool = {"type": "image_generation"} | ({"model": model} if model else {})
    body = json.dumps(
        {"output": [{"type": "image_generation_call"}], "tools": [tool], "tool_usage": {"image_gen": images}}
    ).encode()
    used = ToolUse(image_input_tokens=images["input_tokens"], image_output_tokens=images["output_tokens"])
    result = charged("gpt-6-luna", "default", (0, 0, 0, 0), tool_use=used, body=body)
    if usd is None:
        assert (result.cost_pusd, result.image_pusd) == (None, 0)
    else:
        assert format_usd(result.image_pusd) + ("~" if result.estimated else "") == usd
        assert result.cost_pusd == result.image_pusd


def test_writes_for_twelve_hours_cost_twice_the_input() -> None:
    usage = Usage(1_000_000, 0, 250_000, 0, 0, 1_000_000, cache_write_12h_tokens=100_000)
    response = Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=b"{}",
        model="gpt-6.1-terra",
        service_tier="default",
        usage=usage,
    )
    charge = BOOK.charge_response(response, requested_model=None, requested_tier=None, at=AT)
    # Long: fresh 750,000·2, half an hour 150,000·2.5, twelve hours 100,000·4.
    assert charge.cost_pusd == parse_usd("2.275")
    assert not charge.estimated
    # A model without a price for writes has none for such a lifetime: the cost is a guess.
    odd = BOOK.charge_response(replace(response, model="gpt-5.2"), requested_model=None, requested_tier=None, at=AT)
    assert odd.estimated


@pytest.mark.parametrize("usage", [None, Usage(-1, 0, 0, 5), Usage(5, 0, 0, -5), Usage(5, -9, 0, 5)])
def test_without_a_usage_the_cost_is_at_most_the_reservation(usage: Usage | None) -> None:
    response = Response(
        id="resp_1", status="cancelled", ended=True, body=b"{}", model="gpt-5", service_tier="default", usage=usage
    )
    for reserved in (123, None):
        result = BOOK.charge_response(
            response, requested_model="gpt-5", requested_tier=None, at=timestamp(NOW), worst_case=reserved
        )
        assert (result.usage, result.cost_pusd, result.upper_bound_pusd) == (None, None, reserved)


def test_an_unknown_model_is_bounded_by_the_reservation() -> None:
    result = charged("gpt-7-nova", "default", (1_000, 0, 0, 0), worst_case=456)
    assert (result.cost_pusd, result.upper_bound_pusd) == (None, 456)


def test_a_charge_names_the_source_of_its_price() -> None:
    price = charged("gpt-5.4", "flex", (272_001, 0, 0, 0)).price
    assert price == UnitPrice(
        model="gpt-5.4",
        tier="flex",
        input=2_500_000,
        cached=250_000,
        cache_write=2_500_000,
        cache_write_12h=5_000_000,
        output=11_250_000,
        source="genai-prices",
        version=version("genai-prices"),
        fee_web_search=10_000_000_000,
        fee_file_search=2_500_000_000,
        fee_code_session=30_000_000_000,
        estimated=False,
    )


def test_a_million_charges_sum_exactly() -> None:
    """As floats in dollars the sum would be 1.0024999999935."""
    price = BOOK.price("gpt-5-nano", "flex", at=timestamp(NOW), input_tokens=0)
    assert price is not None
    # 0.025, 0.0025 and 0.2 USD a million: 7·25000 + 3·2500 + 11·200000, and so on, in picodollars.
    by_hand = [
        (Usage(10, 3, 0, 11), 2_382_500),
        (Usage(1, 1, 0, 0), 2_500),
        (Usage(1, 0, 0, 1), 225_000),
        (Usage(0, 0, 0, 7), 1_400_000),
    ]
    amounts = [charge(usage, NO_TOOLS, price) for usage, _ in islice(cycle(by_hand), 1_000_000)]
    assert sum(amounts) == 1_002_500_000_000  # 250,000 × 4,010,000
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE charge (cost_pusd INTEGER) STRICT")
    database.executemany("INSERT INTO charge VALUES (?)", ((amount,) for amount in amounts))
    assert database.execute("SELECT sum(cost_pusd) FROM charge").fetchone() == (1_002_500_000_000,)
    database.close()
    assert format_usd(1_002_500_000_000) == "1.0025"


def test_a_charge_can_be_recomputed_from_stored_values() -> None:
    result = charged("gpt-6.1-sol", "flex", (100_000, 90_000, 10_000, 5_000), tool_use=ToolUse(web_searches=2))
    assert result.usage is not None
    assert result.price is not None
    assert charge(result.usage, result.tool_use, result.price) == result.cost_pusd == parse_usd("0.062")
