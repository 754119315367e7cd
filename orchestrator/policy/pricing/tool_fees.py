"""Hosted tools that cost a fee in addition to their tokens: which a request may use, and which a response used.

Fees are per call or per session (responses API, "Cost", tool fees). Two kinds of web search have different fees, and
their calls look the same in a response, so the response's list of tools decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date

import orjson

from orchestrator.core.model import Response, UnitPrice
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.price_rules import Fees
from orchestrator.policy.pricing.published import published_image_rate
from orchestrator.policy.pricing.rates import strip_date

__all__ = ["highest_fee", "image_cost", "makes_images", "paid_tools", "search_fee", "searches_of"]

_SEARCH, _PREVIEW, _FILES, _CODE = "web_search", "web_search_preview", "file_search", "code_interpreter"
# Tools that cost only their tokens. A tool that is neither here nor above (image generation) has a cost that nothing
# bounds before it is used.
_FREE = frozenset(
    {
        "apply_patch",
        "computer",
        "computer_use",
        "computer_use_preview",
        "custom",
        "function",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
    }
)
_IMAGE_TOOL, _IMAGE_ITEM = "image_generation", "image_generation_call"
# Models that do not reason have another fee for the preview search.
_PLAIN_MODEL = re.compile(r"(?:ft:)?(?:gpt-[34]|chatgpt-)|.*-chat\b")
# Models that pay for the text found by a search in blocks of fixed size.
_BLOCK_MODELS = frozenset({"gpt-4o-mini", "gpt-4.1-mini"})


def paid_tools(types: Collection[str]) -> frozenset[str] | None:
    """Returns the tools that have a fee, without version dates; None if the cost of one is unknown."""
    paid = set()
    for each in types:
        if each in _FREE:
            continue
        kind = next((kind for kind in (_PREVIEW, _SEARCH, _FILES, _CODE) if each.startswith(kind)), None)
        if kind is None:
            return None
        paid.add(kind)
    return frozenset(paid)


def searches_of(response: Response) -> frozenset[str]:
    """Returns the kinds of web search that a response may have used; empty if it made none."""
    if not response.tool_use.web_searches:
        return frozenset()
    if _PREVIEW.encode() not in response.body:
        return frozenset({_SEARCH})
    types = {str(tool.get("type")) for tool in _objects(response.body, "tools")}
    kinds = {_PREVIEW if each.startswith(_PREVIEW) else _SEARCH for each in types if each.startswith(_SEARCH)}
    return frozenset(kinds or {_SEARCH})


def makes_images(response: Response) -> bool:
    """Whether a response made images, which cost money that is not in its usage."""
    # Searching a body of some kilobytes takes longer than all other steps of its charge.
    if response.no_tool_items or _IMAGE_ITEM.encode() not in response.body:
        return False
    return any(item.get("type") == _IMAGE_ITEM for item in _objects(response.body, "output"))


def image_cost(response: Response, day: date) -> tuple[Picodollars, bool] | None:
    """Returns what the images of a response cost, and whether that is an estimate; None if it is unknown.

    It is unknown if the response reports no tokens, or does not name an image model with a published price. Without
    the split into texts and images, and without the cached tokens, the higher price applies, as an estimate.
    """
    used = response.tool_use
    models = {str(tool.get("model")) for tool in _objects(response.body, "tools") if tool.get("type") == _IMAGE_TOOL}
    rates = [published_image_rate(model, day) for model in models]
    if not used.image_output_tokens or not rates or None in rates:
        return None
    usage = _image_usage(response.body)
    read = _texts_of(usage.get("input_tokens_details"), used.image_input_tokens)
    made = _texts_of(usage.get("output_tokens_details"), used.image_output_tokens)
    costs = [
        _split(used.image_input_tokens, read, rate.text_input, rate.image_input)
        + _split(used.image_output_tokens, made, rate.text_output, rate.image_output)
        for rate in rates
        if rate is not None
    ]
    is_guess = read is None or made is None or usage.get("cached_tokens") != 0 or len(costs) > 1
    return max(costs), is_guess


def _texts_of(details: object, tokens: int) -> int | None:
    """Returns how many of the tokens are texts; None if that is not said."""
    texts = details.get("text_tokens") if isinstance(details, dict) else None
    return texts if isinstance(texts, int) and 0 <= texts <= tokens else None


def _split(tokens: int, texts: int | None, text_price: int, image_price: int) -> Picodollars:
    """Returns the price of tokens, those of texts at their own if they are separated."""
    if texts is None:
        return tokens * max(text_price, image_price)
    return texts * text_price + (tokens - texts) * image_price


def _image_usage(body: bytes) -> dict[str, object]:
    reported = orjson.loads(body).get("tool_usage")
    usage = reported.get("image_gen") if isinstance(reported, dict) else None
    return usage if isinstance(usage, dict) else {}


def search_fee(fees: Fees, model: str, searches: frozenset[str], *, input_price: int) -> tuple[Picodollars, bool]:
    """Returns the fee of one web search, and whether it is an estimate.

    If a request has both kinds, the more expensive one counts, because calls do not show their kind. Whether a block
    of found text is also in the usage is undocumented: it counts.
    """
    in_blocks = strip_date(model) in _BLOCK_MODELS
    plain = _PLAIN_MODEL.match(model) is not None
    by_kind = {
        _SEARCH: fees.web_search + (fees.web_search_block_tokens * input_price if in_blocks else 0),
        _PREVIEW: fees.web_search_preview_plain if plain else fees.web_search_preview,
    }
    kinds = searches & by_kind.keys() or {_SEARCH}
    return max(by_kind[kind] for kind in kinds), len(kinds) > 1 or (in_blocks and _SEARCH in searches)


def highest_fee(price: UnitPrice, paid: frozenset[str]) -> Picodollars:
    """Returns the most that one call of any of these tools costs."""
    fees = {_FILES: price.fee_file_search, _CODE: price.fee_code_session}
    return max((fees.get(tool, price.fee_web_search) for tool in paid), default=0)


def _objects(body: bytes, field: str) -> list[dict[str, object]]:
    document = orjson.loads(body)
    items = document.get(field) if isinstance(document, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
