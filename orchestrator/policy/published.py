"""List prices as published, read from the genai-prices package; the only module that imports it.

The package's own calculation is not used, because it answers where it should refuse: an unknown service tier gets
the standard price, a snapshot it has not heard of an exception, a tier without long-context prices the short ones.
Its data is read instead, and what it does not say stays unknown. It is never asked to fetch newer prices: a charge
must be explained by the installed version alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider

__all__ = ["Rate", "Rates", "per_token", "published_rates", "published_version", "strip_date"]

_DATE = re.compile(r"-20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")
# What a charge counts, or prices by itself (tool calls). A model that is also billed by anything else (seconds of
# audio, images) is not priced: its tokens alone would understate it.
_COUNTED = {
    "input_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "output_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
}
# Tiers whose price is published as a multiple of the default one, and that the package does not have.
_MULTIPLES = {("gpt-6.1-sol", "ultrafast"): 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Picodollars a token. ``estimated`` marks a rate that was inferred, not read."""

    input: int
    cached: int
    cache_write: int
    output: int
    estimated: bool = False

    def times(self, factor: Decimal | int) -> Rate:
        """The rate at a discount or surcharge; what does not come out even is rounded up and marked."""
        exact = [Decimal(unit) * factor for unit in (self.input, self.cached, self.cache_write, self.output)]
        whole = [int(unit.to_integral_value(ROUND_CEILING)) for unit in exact]
        return Rate(
            input=whole[0],
            cached=whole[1],
            cache_write=whole[2],
            output=whole[3],
            estimated=self.estimated or whole != exact,
        )

    def at_least(self, floor: Rate) -> Rate:
        """The dearer of two rates, unit by unit."""
        return Rate(
            input=max(self.input, floor.input),
            cached=max(self.cached, floor.cached),
            cache_write=max(self.cache_write, floor.cache_write),
            output=max(self.output, floor.output),
            estimated=self.estimated,
        )

    def inferred(self) -> Rate:
        """The same rate, marked as estimated."""
        return replace(self, estimated=True)


# Rates by the length of the input: each holds for requests of *more* input tokens than the number beside it (0 for
# the first), for all their tokens. None: longer inputs are accepted, but their price is not known.
Rates: TypeAlias = tuple[tuple[int, Rate | None], ...]


def per_token(usd_per_million: Decimal) -> int:
    """Picodollars a token; a price finer than that is refused with ``ValueError`` rather than rounded."""
    exact = usd_per_million.scaleb(6)
    if not exact.is_finite() or exact < 0 or exact != exact.to_integral_value():
        raise ValueError("a price is not negative and has at most 6 decimals in USD per million tokens")
    return int(exact)


def strip_date(model: str) -> str:
    """The name of a model without the ``-YYYY-MM-DD`` of its snapshot."""
    return _DATE.sub("", model)


def published_version() -> str:
    """The version of the price data."""
    return version("genai-prices")


def published_rates(model: str, tier: str, day: date) -> Rates | None:
    """The rates of a model at a service tier on a day (UTC); None where none are published.

    ``tier`` is ``default``, ``flex``, ``priority``, ``batch`` or ``ultrafast``. Fine-tuned models (``ft:…``) have no
    list price here: what the package holds are prefixes of a few old ones.
    """
    if model.lower().startswith("ft:") or ".ft-" in model.lower():
        return None
    found = _find(model.lower())
    if found is None:
        return None
    info, named = found
    moment = datetime.combine(day, time(), UTC)
    standard = info.get_prices(moment)
    if multiple := _MULTIPLES.get((info.id, tier)):
        rates = _standard_rates(standard)
        return rates and tuple((above, rate and rate.times(multiple).inferred()) for above, rate in rates)
    rates = _standard_rates(standard) if tier == "default" else _tier_rates(info, tier, moment, standard)
    if rates is None or named:
        return rates
    return tuple((above, rate and rate.inferred()) for above, rate in rates)


@cache
def _provider() -> Provider:
    # Half a second of start-up that a command without prices need not spend. The bundled data is taken by name: the
    # package's "current snapshot" could have been replaced by another user of it in this process.
    from genai_prices.data import providers

    return next(provider for provider in providers if provider.id == "openai")


def _find(model: str) -> tuple[ModelInfo, bool] | None:
    """The model's entry, and whether it is named there rather than inferred."""
    for name in (model, strip_date(model)):
        info = _provider().find_model(name)
        if info is not None:
            return info, name == model and _names(info.match, name)
    return None


def _names(clause: MatchLogic, model: str) -> bool:
    """Whether a match is this very model or a dated snapshot of it, not merely one that begins alike."""
    from genai_prices.types import ClauseEquals, ClauseOr, ClauseRegex, ClauseStartsWith

    match clause:
        case ClauseOr(or_=clauses):
            return any(_names(each, model) for each in clauses)
        case ClauseEquals() | ClauseRegex():
            return clause.is_match(model)
        case ClauseStartsWith(starts_with=prefix):
            return strip_date(model) == prefix.rstrip("-")
        case _:
            return False


def _standard_rates(prices: ModelPrice) -> Rates | None:
    units = _units(vars(prices))
    if units is None:
        return None
    steps = sorted({0}.union(*(unit.keys() for unit in units.values())))
    return tuple((above, _rate_at(units, above)) for above in steps)


def _tier_rates(info: ModelInfo, tier: str, moment: datetime, standard: ModelPrice) -> Rates | None:
    wanted = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    own: dict[str, object] = {}
    for variant in info.price_variants or ():
        if variant.when == wanted and (variant.constraint is None or variant.constraint.active(moment)):
            own = {**vars(variant.prices), **own}
    units, base = _units(own), _units(vars(standard))
    if units is None or base is None:
        return None
    inferred = False
    for key in base.keys() - units.keys():
        # The tier publishes no rate of its own for cached or written tokens. Neither the default tier's rate nor
        # the tier's input rate is certain, so it is the dearer of the two.
        inferred = True
        units[key] = {
            above: max(_at(units["input_mtok"], above), _at(base[key], above))
            for above in {0, *units["input_mtok"], *base[key]}
        }
    steps = sorted({0}.union(*(unit.keys() for unit in (*units.values(), *base.values()))))
    last_own = max(units["input_mtok"])
    rates: list[tuple[int, Rate | None]] = []
    for above in steps:
        # The default tier charges more from here on and this tier says nothing of such inputs.
        rate = _rate_at(units, above) if above <= last_own else None
        rates.append((above, rate.inferred() if rate and inferred else rate))
    return tuple(rates)


def _units(prices: Mapping[str, object]) -> dict[str, dict[int, int]] | None:
    """Each price by the input length above which it holds; None where the set cannot price a response."""
    from genai_prices.types import TieredPrices

    prices = {key: price for key, price in prices.items() if price is not None}
    if not {"input_mtok", "output_mtok"} <= prices.keys() <= _COUNTED:
        return None
    units: dict[str, dict[int, int]] = {}
    for key, price in prices.items():
        if isinstance(price, TieredPrices):
            units[key] = {0: per_token(price.base), **{step.start: per_token(step.price) for step in price.tiers}}
        elif isinstance(price, Decimal) and key.endswith("_mtok"):
            units[key] = {0: per_token(price)}
    return units


def _rate_at(units: Mapping[str, Mapping[int, int]], above: int) -> Rate:
    # Without a price of their own, cached and written tokens cost what any input does.
    fresh = units["input_mtok"]
    return Rate(
        input=_at(fresh, above),
        cached=_at(units.get("cache_read_mtok", fresh), above),
        cache_write=_at(units.get("cache_write_mtok", fresh), above),
        output=_at(units["output_mtok"], above),
    )


def _at(unit: Mapping[int, int], above: int) -> int:
    return unit[max(step for step in unit if step <= above)]
