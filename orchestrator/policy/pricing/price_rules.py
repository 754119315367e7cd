"""A user's own prices and factors, which take precedence over the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.rates import Rate, Rates, per_token, strip_date, write_12h_of

__all__ = ["TIERS", "WINDOWS", "Fees", "LongRate", "PriceOverride", "PriceRules", "UnpricedTier", "tier_of"]

TIERS = ("default", "flex", "priority", "batch", "scale", "ultrafast")
# The published factors of completion windows (responses API, "background_options"). Whether a missed target, a cached
# or a long input is discounted, too, is not published, so what follows from them is an estimate.
WINDOWS: Mapping[str, Decimal] = {"2h": Decimal("0.7"), "8h": Decimal("0.6")}
_SAME = {"standard": "default", "fast": "priority"}


def tier_of(word: str | None) -> str | None:
    """Returns the service tier in the provider's spelling; None for ``auto`` and if none is given.

    An unknown word is returned unchanged: it has no price, and never counts as the default tier.
    """
    if word is None or word in ("", "auto"):
        return None
    return _SAME.get(word, word)


class UnpricedTier(StrEnum):
    """What a response at a tier without a known price costs.

    ``unknown`` gives it an unknown cost with an upper bound; ``default`` charges the default tier's price, marked as
    estimated.
    """

    UNKNOWN = "unknown"
    DEFAULT = "default"


@fast_dataclass
class Fees:
    """Picodollars per call of a hosted tool, or per session (responses API, "Cost", tool fees).

    ``web_search_preview_plain`` is the preview tool with a model that does not reason; its found text is free.
    ``web_search_block_tokens`` are billed as input for each search of models that pay for found text in blocks.
    """

    web_search: Picodollars = 10_000_000_000
    web_search_preview: Picodollars = 10_000_000_000
    web_search_preview_plain: Picodollars = 25_000_000_000
    web_search_block_tokens: int = 8_000
    file_search: Picodollars = 2_500_000_000
    code_session: Picodollars = 30_000_000_000


@fast_dataclass
class LongRate:
    """What a request costs, all of it, when its input is longer than ``above`` tokens; USD per million tokens."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_12h: Decimal | None = None
    above: int = 272_000


@fast_dataclass
class PriceOverride:
    """A price that takes precedence over the published one; USD per million tokens.

    ``model`` is a name, which also covers its dated snapshots, or a pattern with ``*``. Without ``cached`` or
    ``cache_write`` such tokens cost the same as other input; without ``cache_write_12h``, tokens written for twelve
    hours cost twice as much as other input. ``effective_from`` is the first day (UTC) of the price;
    None means always. ``tier`` may carry a completion window: ``default:8h``. ``estimated`` marks what is charged.
    """

    model: str
    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_12h: Decimal | None = None
    tier: str = "default"
    effective_from: date | None = None
    long: LongRate | None = None
    estimated: bool = False

    def rank(self, model: str) -> int:
        """Returns how well it fits a model: 3 for its name, 2 for the name without a date, 1 for a pattern, or 0."""
        if self.model == model:
            return 3
        if self.model == strip_date(model):
            return 2
        return 1 if fnmatchcase(model, self.model) else 0

    def rates(self, published: Rates | None) -> Rates:
        """Returns its rates; for longer inputs without a rate, the published ones if they are higher."""
        short = replace(_rate(self), estimated=self.estimated)
        if self.long:
            long = replace(_rate(self.long), estimated=self.estimated)
            return Rates(((0, short), (self.long.above, long)))
        longer = published.map(lambda rate: rate.at_least(short).inferred()).steps[1:] if published else ()
        return Rates(((0, short), *longer))


def _rate(prices: PriceOverride | LongRate) -> Rate:
    fresh = per_token(prices.input)
    written = fresh if prices.cache_write is None else per_token(prices.cache_write)
    long = prices.cache_write_12h
    return Rate(
        input=fresh,
        cached=fresh if prices.cached is None else per_token(prices.cached),
        cache_write=written,
        cache_write_12h=write_12h_of(fresh, written) if long is None else per_token(long),
        output=per_token(prices.output),
    )


@fast_dataclass
class PriceRules:
    """A user's prices and factors.

    ``windows`` are factors on the default tier for background completion windows; a window without one has no known
    price. ``regional`` are factors on published prices for data residency, by model
    pattern. ``auto_tiers`` are the tiers at which a request without one, or with ``auto``, may be billed: a setting
    of the project decides, which the API does not show. ``version`` is recorded with each charge.
    """

    overrides: tuple[PriceOverride, ...] = ()
    windows: Mapping[str, Decimal] = field(default_factory=lambda: WINDOWS)
    regional: Mapping[str, Decimal] = field(default_factory=dict)
    auto_tiers: tuple[str, ...] = ("default", "flex", "priority")
    unpriced_tier: UnpricedTier = UnpricedTier.UNKNOWN
    fees: Fees = Fees()
    source: str = "prices.yaml"
    version: str = ""
    # Nothing costs anything, whatever the price lists say.
    free: bool = False

    def override(self, model: str, tier: str, day: date) -> PriceOverride | None:
        """Returns the override in force: the best fitting, of these the newest, of these the last one."""
        best: tuple[int, date, int] | None = None
        for index, each in enumerate(self.overrides):
            since = each.effective_from or date.min
            if each.tier == tier and since <= day and (rank := each.rank(model)):
                best = max(best or (0, date.min, 0), (rank, since, index))
        return self.overrides[best[2]] if best else None

    def regional_factor(self, model: str) -> Decimal | None:
        """Returns the factor of the first pattern that fits."""
        return next((factor for pattern, factor in self.regional.items() if fnmatchcase(model, pattern)), None)
