"""What the provider bills for a response, by its own arithmetic over what the sandbox did.

Only the list prices of tokens are those that clients use. Discounts, lifetimes of the cache, fees and image tokens
are counted here a second time, so that an error in a client's account does not repeat in the one it is compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from orchestrator.core.model import ToolUse, UnitPrice, Usage
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.storage.response_record import ResponseRecord

__all__ = ["bill", "billed_tools"]

Json: TypeAlias = Any

# Tenths of the standard price of tokens (responses API, "background_options").
_WINDOW_TENTHS = {"2h": 7, "8h": 6}
_CENT = 10**10
_FILE_SEARCH, _CODE_SESSION = _CENT // 4, 3 * _CENT
_SEARCH, _PREVIEW, _PLAIN_PREVIEW = _CENT, _CENT, 25 * _CENT // 10
_PLAIN_MODELS = ("gpt-3", "gpt-4", "chatgpt-")
_BLOCK_MODELS = ("gpt-4o-mini", "gpt-4.1-mini")
_BLOCK_TOKENS = 8_000
# Picodollars per token that an image model reads as text, and makes as an image.
_IMAGE_RATES = {
    "gpt-image-1": (5_000_000, 40_000_000),
    "gpt-image-1-mini": (2_000_000, 8_000_000),
    "gpt-image-1.5": (5_000_000, 32_000_000),
    "gpt-image-2": (5_000_000, 30_000_000),
}


def billed_tools(hosted: bytes) -> ToolUse:
    """What was used of tools that are billed apart."""
    basis = orjson.loads(hosted)
    calls, reported = basis.get("output", ()), basis.get("tool_usage", {})
    images = reported.get("image_gen", {})
    return ToolUse(
        web_searches=reported.get("web_search", {}).get("num_requests", 0),
        file_searches=Counter(call["type"] for call in calls)["file_search_call"],
        code_sessions=len({call["container_id"] for call in calls if call["type"] == "code_interpreter_call"}),
        image_input_tokens=images.get("input_tokens", 0),
        image_output_tokens=images.get("output_tokens", 0),
    )


def bill(record: ResponseRecord, usage: Usage, used: ToolUse, prices: PriceBook) -> Picodollars | None:
    """The price of a response that has ended; None if no price is published for its model or its image model."""
    price = prices.price(record.model, record.tier, at=record.created_at, input_tokens=usage.input_tokens)
    basis = orjson.loads(record.hosted)
    images = _images(used, basis)
    if price is None or images is None:
        return None
    tenths = _WINDOW_TENTHS.get(record.window or "", 10) if record.tier == "default" else 10
    if record.window not in (None, "soonest", *_WINDOW_TENTHS) and record.tier == "default":
        return None
    return _tokens(usage, price, tenths) + _fees(record, used, basis, -(-price.input * tenths // 10)) + images


def _tokens(usage: Usage, price: UnitPrice, tenths: int) -> Picodollars:
    short_lived = usage.cache_write_tokens - usage.cache_write_12h_tokens
    fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    counts = (
        (fresh, price.input),
        (usage.cached_tokens, price.cached),
        (short_lived, price.cache_write),
        (usage.cache_write_12h_tokens, 2 * price.input),
        (usage.output_tokens, price.output),
    )
    return sum(count * -(-unit * tenths // 10) for count, unit in counts)


def _fees(record: ResponseRecord, used: ToolUse, basis: Mapping[str, Json], input_price: int) -> Picodollars:
    kinds = {str(tool["type"]) for tool in basis.get("tools", ()) if str(tool["type"]).startswith("web_search")}
    fees = [
        _PLAIN_PREVIEW if record.model.startswith(_PLAIN_MODELS) else _PREVIEW for kind in kinds if _is_preview(kind)
    ]
    if any(not _is_preview(kind) for kind in kinds) or not fees:
        fees.append(_SEARCH + (_BLOCK_TOKENS * input_price if record.model.startswith(_BLOCK_MODELS) else 0))
    return used.web_searches * max(fees) + used.file_searches * _FILE_SEARCH + used.code_sessions * _CODE_SESSION


def _is_preview(kind: str) -> bool:
    return kind.startswith("web_search_preview")


def _images(used: ToolUse, basis: Mapping[str, Json]) -> Picodollars | None:
    if not any(call["type"] == "image_generation_call" for call in basis.get("output", ())):
        return 0
    models = [tool.get("model") for tool in basis["tools"] if tool["type"] == "image_generation"]
    rates = [_IMAGE_RATES.get(str(model)) for model in models]
    if not rates or None in rates:
        return None
    return max(
        used.image_input_tokens * read + used.image_output_tokens * drawn for read, drawn in filter(None, rates)
    )
