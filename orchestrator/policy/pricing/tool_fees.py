"""Hosted tools that cost a fee in addition to their tokens: which a request may use, and which a response used.

Fees are per call or per session (responses API, "Cost", tool fees). Two kinds of web search have different fees, and
their calls look the same in a response, so the response's list of tools decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import orjson

from orchestrator.core.model import Response, UnitPrice
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.price_rules import Fees
from orchestrator.policy.pricing.rates import strip_date

__all__ = ["has_uncounted_items", "highest_fee", "paid_tools", "search_fee", "searches_of"]

_SEARCH, _PREVIEW, _FILES, _CODE = "web_search", "web_search_preview", "file_search", "code_interpreter"
# Tools that cost only their tokens. A tool that is neither here nor above (image generation) has a cost that no count
# shows.
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
_UNCOUNTED_ITEM = "image_generation_call"
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


def has_uncounted_items(response: Response) -> bool:
    """Whether a response holds items that cost money and are not in its usage."""
    # Searching a body of some kilobytes takes longer than all other steps of its charge.
    if response.no_tool_items or _UNCOUNTED_ITEM.encode() not in response.body:
        return False
    return any(item.get("type") == _UNCOUNTED_ITEM for item in _objects(response.body, "output"))


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
