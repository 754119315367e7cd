"""Published list prices, read from the genai-prices package; the only module that imports it.

The package's own calculation is not used, because it guesses: it prices an unknown service tier as the standard one
and a tier without long-context prices by the short ones, and raises an exception for an unknown snapshot. This module
reads its data instead, and what is not in it stays unknown. It never fetches newer prices: the installed version
alone must explain a charge.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from orchestrator.policy.pricing.rates import Rate, Rates, per_token, strip_date, write_12h_of

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, Provider

__all__ = ["ImageRate", "published_image_rate", "published_rates", "published_version"]

_INPUT, _CACHED, _WRITTEN, _OUTPUT = "input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok"
# Tool calls are priced by our own table. A model that is also billed by other units (seconds of audio, images) has no
# price: its tokens alone would understate the cost.
_TOOL_CALLS = frozenset({"web_searches_kcount", "storage_searches_kcount"})
# Tiers whose price is published as a multiple of the default one, and which the package does not have.
_MULTIPLES = {("gpt-6.1-sol", "ultrafast"): 6, ("gpt-6-astra", "ultrafast"): 6}

# One price by the input length above which it holds, in picodollars per token.
_Unit: TypeAlias = dict[int, int]


def published_version() -> str:
    """Returns the version of the price data."""
    return version("genai-prices")


def published_rates(model: str, tier: str, day: date) -> Rates | None:
    """Returns the rates of a model at a service tier on a day (UTC); None if none are published.

    ``tier`` is ``default``, ``flex``, ``priority``, ``batch`` or ``ultrafast``. Fine-tuned models (``ft:…``) have no
    list price here: the package only has prefixes of a few old ones.
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


class ImageRate(NamedTuple):
    """Picodollars per token of an image model: of texts and images that it reads, and of those that it makes."""

    text_input: int
    image_input: int
    text_output: int
    image_output: int


def published_image_rate(model: str, day: date) -> ImageRate | None:
    """Returns the rate of a model that makes images on a day (UTC); None if none is published.

    It is that of tokens that are not cached, because a response need not say which were.
    """
    info, _ = _find(model.lower())
    stated = vars(info.get_prices(datetime.combine(day, time(), UTC))) if info else {}
    text, made = stated.get(_INPUT), stated.get(_OUTPUT)
    read, drawn = stated.get("input_image_mtok") or text, stated.get("output_image_mtok") or made
    # A model without a price for images that it reads makes none.
    prices = (text, read, made, drawn)
    if "input_image_mtok" not in stated or not all(isinstance(price, Decimal) for price in prices):
        return None
    return ImageRate(*map(per_token, prices))  # type: ignore[arg-type]  # all are decimals


@cache
def _provider() -> Provider:
    # The import takes 0.2 s, or 0.5 s on a cold disk, which commands without prices save. It names the bundled data,
    # because other code could have replaced the package's "current snapshot".
    with _imported_when_used("httpx2"):
        from genai_prices.data import providers

    return next(provider for provider in providers if provider.id == "openai")


@contextmanager
def _imported_when_used(name: str) -> Iterator[None]:
    """Within the block, let a module be imported without being run before something of it is used.

    The price package imports a client, to fetch newer prices, which it is never asked for: a third of its time.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = deferred = ModuleType(name)
    deferred.__getattr__ = lambda attribute: getattr(import_module(name), attribute)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del sys.modules[name]


def _find(model: str) -> tuple[ModelInfo | None, bool]:
    """Returns the entry of a model, and whether it names the model or only resembles it."""
    if info := _provider().find_model(model):
        return info, _names(info.match, model)
    return _provider().find_model(strip_date(model)), False


def _names(clause: MatchLogic, model: str) -> bool:
    """Whether a match is this model or a dated snapshot of it, not only a name with the same start."""
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
        # The tier has no price of its own for cached or written tokens. Neither the default tier's nor its own for
        # fresh input is certain, so the higher of both applies.
        steps = {*fresh, *standard[name]}
        own[name] = {above: max(_at(fresh, above), _at(standard[name], above)) for above in steps}
    rates = _rates(own).inferred() if missing else _rates(own)
    longest = max(fresh)
    known = tuple((above, rate) for above, rate in rates.steps if above <= longest)
    # The default tier charges more from here on; this tier has no such price.
    unknown = tuple((above, None) for above in sorted(_steps(standard)) if above > longest)
    return Rates(known + unknown)


def _units(stated: Mapping[str, object]) -> dict[str, _Unit] | None:
    """Returns the prices of tokens; None if they do not suffice to price a response, or are too fine to count."""
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
    # Without a price of their own, cached and written tokens cost the same as other input.
    fresh = units[_INPUT]
    return Rates(
        tuple(
            (
                above,
                Rate(
                    input=_at(fresh, above),
                    cached=_at(units.get(_CACHED, fresh), above),
                    cache_write=_at(units.get(_WRITTEN, fresh), above),
                    cache_write_12h=write_12h_of(_at(fresh, above), _at(units.get(_WRITTEN, fresh), above)),
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
