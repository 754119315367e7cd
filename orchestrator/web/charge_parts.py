"""Explains a charge: which tokens and fees it is the sum of."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Charge
from orchestrator.core.money import Picodollars

__all__ = ["ChargePart", "charge_parts"]


@fast_dataclass(kw_only=False)
class ChargePart:
    """``count`` units of something at a price each. Of tokens, the price is that of one token."""

    what: str
    count: int
    unit_pusd: Picodollars

    @property
    def pusd(self) -> Picodollars:
        """What they cost together."""
        return self.count * self.unit_pusd


def charge_parts(charge: Charge) -> list[ChargePart]:
    """Returns the parts that add up to a charge; none if its cost or its price is not known."""
    usage, price, used = charge.usage, charge.price, charge.tool_use
    if usage is None or price is None or charge.cost_pusd is None:
        return []
    fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    written = usage.cache_write_tokens - usage.cache_write_12h_tokens
    parts = [
        ChargePart("input tokens", fresh, price.input),
        ChargePart("cached input tokens", usage.cached_tokens, price.cached),
        ChargePart("tokens written to the cache", written, price.cache_write),
        ChargePart("tokens written to the cache for 12 hours", usage.cache_write_12h_tokens, price.cache_write_12h),
        ChargePart("output tokens", usage.output_tokens, price.output),
        ChargePart("web searches", used.web_searches, price.fee_web_search),
        ChargePart("file searches", used.file_searches, price.fee_file_search),
        ChargePart("code interpreter sessions", used.code_sessions, price.fee_code_session),
        ChargePart("generated images", 1 if charge.image_pusd else 0, charge.image_pusd),
    ]
    return [part for part in parts if part.count]
