"""The reservation for a request is never less than the cost of its response."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import Response, ToolUse, Usage
from orchestrator.core.money import format_usd
from orchestrator.policy.pricing.price_rules import PriceOverride, PriceRules
from orchestrator.policy.pricing.prices import Bounds, PriceBook
from orchestrator.policy.pricing.tokens import may_write_12h

BOOK = PriceBook()
NOW = datetime(2026, 11, 18, tzinfo=UTC).timestamp()


def worst(model: str, tier: str | None, input_tokens: int, output_tokens: int, **more: Any) -> str | None:
    bounds = Bounds.of(input_tokens, output_tokens, **more)
    most = None if bounds is None else BOOK.worst_case(model, tier, bounds, at=NOW)
    return None if most is None else format_usd(most)


@pytest.mark.parametrize(
    ("model", "tier", "input_tokens", "output_tokens", "usd"),
    [
        ("gpt-5-mini", "default", 10_000, 1_000, "0.0045"),  # 10000·0.25 + 1000·2
        ("gpt-5-mini", "flex", 10_000, 1_000, "0.0045"),  # may be served, and billed, as default
        ("gpt-5-mini", "priority", 10_000, 1_000, "0.0081"),  # 10000·0.45 + 1000·3.6
        ("gpt-5-mini", None, 10_000, 1_000, "0.0081"),  # the project's setting decides, and may say priority
        ("gpt-5-mini", "auto", 10_000, 1_000, "0.0081"),
        ("gpt-5-nano", None, 10_000, 1_000, "0.0009"),  # has no priority tier: 10000·0.05 + 1000·0.4
        ("gpt-5-mini", "batch", 10_000, 1_000, "0.00225"),
        ("gpt-6-sol", "default", 10_000, 1_000, "0.035"),  # all written to the cache: 10000·2.5 + 1000·10
        ("gpt-6-sol", "default", 272_000, 0, "0.68"),
        ("gpt-6-sol", "default", 272_001, 0, "1.360005"),  # long, and written: 5
        ("gpt-5-pro", "default", 1_000, 1_000, "0.135"),
        ("gpt-5-nano", "priority", 10_000, 1_000, "0.0054"),  # no such price: 6 × the default one
        ("gpt-5-mini", "scale", 10_000, 1_000, "0.027"),
        ("gpt-6.1-sol", "ultrafast", 10_000, 1_000, "0.21"),  # 10000·15 + 1000·60
        ("gpt-5.4", "priority", 272_001, 0, "8.16003"),  # no long price at this tier: 6 × 272001·5
    ],
)
def test_worst_cases_calculated_by_hand(
    model: str, tier: str | None, input_tokens: int, output_tokens: int, usd: str
) -> None:
    assert worst(model, tier, input_tokens, output_tokens) == usd


def test_the_worst_case_of_an_unknown_model_is_unknown() -> None:
    assert worst("gpt-7-nova", "default", 1, 1) is None


def test_without_a_bound_on_tokens_the_cost_has_none() -> None:
    for input_tokens, cap in ((None, 100), (100, None)):
        assert Bounds.of(input_tokens, cap) is None


@pytest.mark.parametrize(
    ("tools", "calls", "usd"),
    [
        (["function", "custom", "mcp"], None, "0"),
        (["web_search"], 3, "0.03"),
        (["web_search_2025_08_26"], 3, "0.03"),
        (["web_search", "file_search", "code_interpreter"], 3, "0.09"),
        (["file_search"], 2, "0.005"),
        (["web_search"], None, None),  # without a limit on calls
        (["image_generation"], 1, None),
        (["something_new"], 1, None),
    ],
)
def test_tool_fees_are_bounded_by_the_calls(tools: list[str], calls: int | None, usd: str | None) -> None:
    assert worst("gpt-5", "default", 0, 0, tools=tools, max_tool_calls=calls) == usd


def test_the_preview_search_of_a_plain_model_is_the_more_expensive_one() -> None:
    assert worst("gpt-4.1", "default", 0, 0, tools=["web_search_preview"], max_tool_calls=2) == "0.05"


def test_a_completion_window_gives_no_discount() -> None:
    rules = PriceRules(windows={"8h": Decimal("0.5")})
    most = PriceBook(rules).worst_case("gpt-5-mini", "default", Bounds(1_000_000, 0), at=NOW, window="8h")
    assert most == 250_000_000_000


def test_a_higher_price_of_the_user_for_a_window_counts() -> None:
    expensive = PriceOverride(model="gpt-5-mini", tier="default:8h", input=Decimal(1), output=Decimal(1))
    most = PriceBook(PriceRules(overrides=(expensive,))).worst_case(
        "gpt-5-mini", "default", Bounds(1_000_000, 0), at=NOW, window="8h"
    )
    assert most == 10**12


def test_the_user_can_narrow_the_tiers_behind_auto() -> None:
    book = PriceBook(PriceRules(auto_tiers=("default",)))
    assert book.worst_case("gpt-5-mini", None, Bounds(10_000, 1_000), at=NOW) == 4_500_000_000


# ── From a request's body ─────────────────────────────────────────────────────────────────────────────────────

PART: dict[str, Any] = {"type": "input_text", "text": "x" * 10_000}
BODY: dict[str, Any] = {"model": "gpt-5-mini", "service_tier": "default", "input": "hi", "max_output_tokens": 16}


def test_the_worst_case_of_a_body_bounds_its_text_by_bytes() -> None:
    most = BOOK.worst_case_of(BODY | {"input": "x" * 10_000}, at=NOW)
    assert most is not None
    text_alone = 10_000 * 250_000 + 16 * 2_000_000
    assert text_alone < most < text_alone * 1.1


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": 5},
        {"model": "gpt-7-nova"},
        {"max_output_tokens": None},
        {"max_output_tokens": "300"},
        {"service_tier": 1},
        {"previous_response_id": "resp_1"},
        {"tools": [{"type": "web_search"}], "max_tool_calls": 3},
        {"tools": "web_search"},
        {"tools": ["web_search"]},
    ],
)
def test_an_unbounded_body_has_no_worst_case(change: dict[str, Any]) -> None:
    assert BOOK.worst_case_of(BODY, at=NOW) is not None
    assert BOOK.worst_case_of(BODY | change, at=NOW) is None


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_cache_options": {"ttl": "12h"}},
        {"prompt_cache_options": {"mode": "explicit", "ttl": "24h"}},
        {"input": [{"role": "user", "content": [PART | {"prompt_cache_breakpoint": {"ttl": "12h"}}]}]},
    ],
)
def test_a_longer_life_in_the_cache_is_reserved_at_its_price(change: dict[str, Any]) -> None:
    body = BODY | {"model": "gpt-6.1-terra", "input": [{"role": "user", "content": [PART]}]}
    usual, long = BOOK.worst_case_of(body, at=NOW), BOOK.worst_case_of(body | change, at=NOW)
    assert usual is not None
    assert long is not None
    # Twice the price of input, not 1.25 times, less the output, which costs the same.
    assert (long - 16 * 5_000_000) / (usual - 16 * 5_000_000) > 1.55
    assert may_write_12h(body | change)
    assert not may_write_12h(body | {"prompt_cache_options": {"ttl": "30m"}})


# ── The guarantee ─────────────────────────────────────────────────────────────────────────────────────────────

WINDOWS = [None, "soonest", "2h", "8h", "4h"]
MODELS = [
    "gpt-6-astra",
    "gpt-6.1-terra",
    "gpt-4o-mini",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-5.4",
    "gpt-5.5-pro",
    "gpt-6-sol",
    "gpt-6.1-sol",
    "gpt-4.1",
    "o4-mini",
]
MAY_BECOME = {
    None: ["default", "flex", "priority"],
    "default": ["default"],
    "flex": ["flex", "default"],
    "priority": ["priority", "default"],
    "fast": ["priority", "default"],
    "scale": ["scale", "default"],
    "ultrafast": ["ultrafast", "default"],
    "batch": ["batch"],
}


@given(st.data())
def test_no_response_costs_more_than_the_worst_case_of_its_request(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(MODELS))
    asked = data.draw(st.sampled_from(list(MAY_BECOME)))
    echoed = data.draw(st.sampled_from(MAY_BECOME[asked]))
    input_tokens = data.draw(st.integers(0, 600_000))
    cached = data.draw(st.integers(0, input_tokens))
    written = data.draw(st.integers(0, input_tokens - cached))
    writes_12h = data.draw(st.booleans())
    usage = Usage(
        input_tokens,
        cached,
        written,
        data.draw(st.integers(0, 128_000)),
        cache_write_12h_tokens=data.draw(st.integers(0, written)) if writes_12h else 0,
    )
    window = data.draw(st.sampled_from(WINDOWS)) if asked in (None, "default") else None
    search = data.draw(st.sampled_from(["web_search", "web_search_preview", "web_search_2025_08_26"]))
    tool_use = ToolUse(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)))
    if asked is None and BOOK.price(model, echoed, at=NOW, input_tokens=0) is None:
        return  # a project cannot be set to a tier that the model lacks
    bounds = Bounds.of(
        input_tokens + data.draw(st.integers(0, 300_000)),
        usage.output_tokens + data.draw(st.integers(0, 1_000)),
        tools=[search, "file_search", "code_interpreter"],
        writes_12h=writes_12h,
        max_tool_calls=tool_use.web_searches + tool_use.file_searches + tool_use.code_sessions,
    )
    assert bounds is not None
    most = BOOK.worst_case(model, asked, bounds, at=NOW, window=window)
    response = Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=b'{"tools":[{"type":"%s"}]}' % search.encode(),
        model=model,
        service_tier=echoed,
        usage=usage,
        tool_use=tool_use,
        uncertain_use=data.draw(st.booleans()),
    )
    charge = BOOK.charge_response(
        response, requested_model=model, requested_tier=asked, at=NOW, window=window, worst_case=most
    )
    cost = charge.upper_bound_pusd if charge.cost_pusd is None else charge.cost_pusd
    assert most is not None
    assert cost is not None
    assert cost <= most
