"""Unit prices of tokens: exact, by the length of the input, and marked if they were inferred."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["Rate", "Rates", "per_token", "strip_date", "write_12h_of"]

_DATE = re.compile(r"-20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")


@fast_dataclass
class Rate:
    """Picodollars per token. ``estimated`` marks a rate that was inferred, not read.

    ``cache_write_12h`` is that of tokens written to the cache for twelve hours; ``cache_write`` that of all others.
    """

    input: int
    cached: int
    cache_write: int
    cache_write_12h: int
    output: int
    estimated: bool = False

    def times(self, factor: Decimal | int) -> Rate:
        """Returns the rate at a discount or surcharge; a fraction is rounded up and marked as estimated."""
        units = (self.input, self.cached, self.cache_write, self.cache_write_12h, self.output)
        exact = [Decimal(unit) * factor for unit in units]
        whole = [int(unit.to_integral_value(ROUND_CEILING)) for unit in exact]
        fresh, cached, written, written_12h, output = whole
        return Rate(
            input=fresh,
            cached=cached,
            cache_write=written,
            cache_write_12h=written_12h,
            output=output,
            estimated=self.estimated or exact != whole,
        )

    def at_least(self, floor: Rate) -> Rate:
        """Returns the higher of two rates, unit by unit."""
        return Rate(
            input=max(self.input, floor.input),
            cached=max(self.cached, floor.cached),
            cache_write=max(self.cache_write, floor.cache_write),
            cache_write_12h=max(self.cache_write_12h, floor.cache_write_12h),
            output=max(self.output, floor.output),
            estimated=self.estimated,
        )

    def inferred(self) -> Rate:
        """Returns the same rate, marked as estimated."""
        return replace(self, estimated=True)


@fast_dataclass(kw_only=False)
class Rates:
    """Rates by the length of the input, shortest first.

    Each applies to all tokens of requests with *more* input tokens than its number (0 for the first). None means that
    such inputs are accepted, but their price is unknown.
    """

    steps: tuple[tuple[int, Rate | None], ...]

    def map(self, change: Callable[[Rate], Rate]) -> Rates:
        """Returns the same steps with each known rate changed."""
        return Rates(tuple((above, rate and change(rate)) for above, rate in self.steps))

    def inferred(self) -> Rates:
        """Returns the same rates, marked as estimated."""
        return self.map(Rate.inferred)

    def times(self, factor: Decimal | int) -> Rates:
        """Returns the rates at a discount or surcharge."""
        return self.map(lambda rate: rate.times(factor))


def per_token(usd_per_million: Decimal) -> int:
    """Returns picodollars per token; raises ``ValueError`` for a finer price instead of rounding it."""
    exact = usd_per_million.scaleb(6)
    if not exact.is_finite() or exact < 0 or exact != exact.to_integral_value():
        raise ValueError("a price is not negative and has at most 6 decimals in USD per million tokens")
    return int(exact)


def write_12h_of(fresh: int, written: int) -> int:
    """Returns the price of tokens written for twelve hours, if none is stated: twice the price of input.

    It is never less than that of other writes (responses API, "prompt_cache_options.ttl").
    """
    return max(2 * fresh, written)


def strip_date(model: str) -> str:
    """Returns the name of a model without the ``-YYYY-MM-DD`` of its snapshot."""
    return _DATE.sub("", model)
