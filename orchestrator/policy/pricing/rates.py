"""Unit prices of tokens: exact, by the length of the input, and marked if they were inferred."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

__all__ = ["Rate", "Rates", "per_token", "strip_date"]

_DATE = re.compile(r"-20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Picodollars per token. ``estimated`` marks a rate that was inferred, not read."""

    input: int
    cached: int
    cache_write: int
    output: int
    estimated: bool = False

    def times(self, factor: Decimal | int) -> Rate:
        """Returns the rate at a discount or surcharge; a fraction is rounded up and marked as estimated."""
        exact = [Decimal(unit) * factor for unit in (self.input, self.cached, self.cache_write, self.output)]
        fresh, cached, written, output = (int(unit.to_integral_value(ROUND_CEILING)) for unit in exact)
        return Rate(
            input=fresh,
            cached=cached,
            cache_write=written,
            output=output,
            estimated=self.estimated or exact != [fresh, cached, written, output],
        )

    def at_least(self, floor: Rate) -> Rate:
        """Returns the higher of two rates, unit by unit."""
        return Rate(
            input=max(self.input, floor.input),
            cached=max(self.cached, floor.cached),
            cache_write=max(self.cache_write, floor.cache_write),
            output=max(self.output, floor.output),
            estimated=self.estimated,
        )

    def inferred(self) -> Rate:
        """Returns the same rate, marked as estimated."""
        return replace(self, estimated=True)


@dataclass(frozen=True, slots=True)
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


def strip_date(model: str) -> str:
    """Returns the name of a model without the ``-YYYY-MM-DD`` of its snapshot."""
    return _DATE.sub("", model)
