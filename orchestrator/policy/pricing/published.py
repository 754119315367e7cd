"""List prices as published, read from the genai-prices package; the only module that imports it.

The package's own calculation is not used, because it answers where it should refuse: an unknown service tier gets
the standard price, a snapshot it has not heard of an exception, a tier without long-context prices the short ones.
Its data is read instead, and what it does not say stays unknown. It is never asked to fetch newer prices: a charge
must be explained by the installed version alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.policy.pricing.rates import Rate, Rates, per_token, strip_date

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, Provider

__all__ = ["published_rates", "published_version"]

_INPUT, _CACHED, _WRITTEN, _OUTPUT = "input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok"
# Tool calls are priced by our own table. A model that is also billed by anything else (seconds of audio, images) is
# not priced: its tokens alone would understate it.
_TOOL_CALLS = frozenset({"web_searches_kcount", "storage_searches_kcount"})
# Tiers whose price is published as a multiple of the default one, and that the package does not have.
_MULTIPLES = {("gpt-6.1-sol", "ultrafast"): 6}

# One price by the input length above which it holds, in picodollars a token.
_Unit: TypeAlias = dict[int, int]


def published_version() -> str:
    """The version of the price data."""
    return version("genai-prices")


def published_rates(model: str, tier: str, day: date) -> Rates | None:
    """The rates of a model at a service tier on a day (UTC); None where none are published.

    ``tier`` is ``default``, ``flex``, ``priority``, ``batch`` or ``ultrafast``. Fine-tuned models (``ft:…``) have no
    list price here: what the package holds are prefixes of a few old ones.
    """
    model = model.lower()
    if model.startswith("ft:") or ".ft-" in model:
        return None
    info, named = _find(model)
    if info is None:
        return None
    moment = datetime.combine(day, time(), UTC)
    standard = _units(vars(info.get_prices(moment)))
    if standard is None:
        return None
    multiple = _MULTIPLES.get((info.id, tier))
    if multiple:
        return _rates(standard).times(multiple).inferred()
    rates = _rates(standard) if tier == "default" else _tier_rates(info, tier, moment, standard)
    return rates if rates is None or named else rates.inferred()


@cache
def _provider() -> Provider:
    # A fifth of a second, and half of one on a cold disk, that a command without prices need not spend. The bundled
    # data is taken by name: the package's "current snapshot" could have been replaced by another user of it.
    from genai_prices.data import providers

    return next(provider for provider in providers if provider.id == "openai")


def _find(model: str) -> tuple[ModelInfo | None, bool]:
    """The model's entry, and whether the model is named there rather than inferred."""
    if info := _provider().find_model(model):
        return info, _names(info.match, model)
    return _provider().find_model(strip_date(model)), False


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


def _tier_rates(info: ModelInfo, tier: str, moment: datetime, standard: Mapping[str, _Unit]) -> Rates | None:
    wanted = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    stated: dict[str, object] = {}
    for variant in info.price_variants or ():
        if variant.when == wanted and (variant.constraint is None or variant.constraint.active(moment)):
            stated = {**vars(variant.prices), **stated}
    own = _units(stated)
    if own is None:
        return None
    fresh = own[_INPUT]
    missing = standard.keys() - own.keys()
    for name in missing:
        # The tier states no price of its own for cached or written tokens. Neither the default tier's nor its own
        # for fresh input is certain, so it is the dearer of the two.
        steps = {*fresh, *standard[name]}
        own[name] = {above: max(_at(fresh, above), _at(standard[name], above)) for above in steps}
    rates = _rates(own).inferred() if missing else _rates(own)
    longest = max(fresh)
    known = tuple((above, rate) for above, rate in rates.steps if above <= longest)
    # From here on the default tier charges more, and this tier is silent.
    unknown = tuple((above, None) for above in sorted(_steps(standard)) if above > longest)
    return Rates(known + unknown)


def _units(stated: Mapping[str, object]) -> dict[str, _Unit] | None:
    """The prices of tokens; None where they do not suffice to price a response, or are too fine to count."""
    from genai_prices.types import TieredPrices

    units: dict[str, _Unit] = {}
    for name, price in stated.items():
        if price is None or name in _TOOL_CALLS:
            continue
        if name not in (_INPUT, _CACHED, _WRITTEN, _OUTPUT):
            return None
        try:
            if isinstance(price, TieredPrices):
                units[name] = {0: per_token(price.base)} | {step.start: per_token(step.price) for step in price.tiers}
            elif isinstance(price, Decimal):
                units[name] = {0: per_token(price)}
        except ValueError:
            return None
    return units if _INPUT in units and _OUTPUT in units else None


def _rates(units: Mapping[str, _Unit]) -> Rates:
    # Without a price of their own, cached and written tokens cost what any input does.
    fresh = units[_INPUT]
    return Rates(
        tuple(
            (
                above,
                Rate(
                    input=_at(fresh, above),
                    cached=_at(units.get(_CACHED, fresh), above),
                    cache_write=_at(units.get(_WRITTEN, fresh), above),
                    output=_at(units[_OUTPUT], above),
                ),
            )
            for above in sorted(_steps(units))
        )
    )


def _steps(units: Mapping[str, _Unit]) -> set[int]:
    return {above for unit in units.values() for above in unit}


def _at(unit: _Unit, above: int) -> int:
    return unit[max(step for step in unit if step <= above)]
