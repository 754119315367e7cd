"""The file of a user's own prices, ``prices.yaml``, with the checks that reading it makes."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.core.money import parse_usd
from orchestrator.core.section import Section
from orchestrator.policy.pricing.price_rules import (
    TIERS,
    WINDOWS,
    Fees,
    LongRate,
    PriceOverride,
    PriceRules,
    UnpricedTier,
    tier_of,
)
from orchestrator.policy.pricing.rates import per_token

__all__ = ["PriceFile", "file_version"]

_WINDOW = r"[1-9][0-9]*[mhd]"


def _digits(value: object) -> object:
    # A float means its printed digits, not its binary fraction; true and false are no prices.
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return repr(value) if isinstance(value, float) else value


def _whole_picodollars(price: Decimal) -> Decimal:
    per_token(price)
    return price


def _countable(fee: Decimal) -> Decimal:
    parse_usd(fee)
    return fee


def _tier(word: str) -> str:
    tier, colon, window = word.partition(":")
    known = tier_of(tier)
    if known not in TIERS or (colon and (known != "default" or not re.fullmatch(_WINDOW, window))):
        raise ValueError(f"must be one of {', '.join(TIERS)}, or default with a completion window such as default:8h")
    return known + colon + window


_NUMBER = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})
PerMillion: TypeAlias = Annotated[
    Decimal, BeforeValidator(_digits), Field(ge=0, le=1_000_000), AfterValidator(_whole_picodollars), _NUMBER
]
PerCall: TypeAlias = Annotated[
    Decimal, BeforeValidator(_digits), Field(ge=0, le=1_000), AfterValidator(_countable), _NUMBER
]
Discount: TypeAlias = Annotated[Decimal, BeforeValidator(_digits), Field(gt=0, le=1), _NUMBER]
Surcharge: TypeAlias = Annotated[Decimal, BeforeValidator(_digits), Field(gt=0, le=10), _NUMBER]
Tier: TypeAlias = Annotated[str, AfterValidator(_tier)]
Window: TypeAlias = Annotated[str, Field(pattern=f"^{_WINDOW}$")]


class LongPrice(Section):
    """What a request costs, all of it, when its input is longer than ``above`` tokens."""

    above: int = Field(default=272_000, gt=0)
    """The longest input, in tokens, that still has the ordinary price."""
    input: PerMillion
    """USD per million input tokens."""
    output: PerMillion
    """USD per million output tokens."""
    cached: PerMillion | None = None
    """USD per million input tokens read from the cache; the price of input if left out."""
    cache_write: PerMillion | None = None
    """USD per million input tokens written to the cache; the price of input if left out."""
    cache_write_12h: PerMillion | None = None
    """USD per million input tokens written to the cache for twelve hours; twice the price of input if left out."""

    def rate(self) -> LongRate:
        """Returns it as a rule."""
        return LongRate(
            above=self.above,
            input=self.input,
            output=self.output,
            cached=self.cached,
            cache_write=self.cache_write,
            cache_write_12h=self.cache_write_12h,
        )


class Price(Section):
    """The price of one model at one service tier, from one day on."""

    model: str = Field(min_length=1)
    """The model's name, which covers its dated snapshots too, or a pattern with ``*``."""
    tier: Tier = "default"
    """The service tier, or ``default`` with a completion window: ``default:8h``."""
    effective_from: date | None = None
    """The first day of this price, in UTC; always, if left out."""
    input: PerMillion
    """USD per million input tokens."""
    output: PerMillion
    """USD per million output tokens, reasoning included."""
    cached: PerMillion | None = None
    """USD per million input tokens read from the cache; the price of input if left out."""
    cache_write: PerMillion | None = None
    """USD per million input tokens written to the cache; the price of input if left out."""
    cache_write_12h: PerMillion | None = None
    """USD per million input tokens written to the cache for twelve hours; twice the price of input if left out."""
    long: LongPrice | None = None
    """Other prices for long inputs; if left out, the published ones apply if they exist and are higher."""
    estimated: bool = False
    """Whether the price is a guess; what is charged by it is then marked as estimated."""

    def override(self) -> PriceOverride:
        """Returns it as a rule."""
        return PriceOverride(
            model=self.model,
            tier=self.tier,
            effective_from=self.effective_from,
            input=self.input,
            output=self.output,
            cached=self.cached,
            cache_write=self.cache_write,
            cache_write_12h=self.cache_write_12h,
            long=self.long.rate() if self.long else None,
            estimated=self.estimated,
        )


class ToolFees(Section):
    """What hosted tools cost in addition to their tokens; USD per call or session."""

    web_search: PerCall = Decimal("0.01")
    """One web search."""
    web_search_preview: PerCall = Decimal("0.01")
    """One search of the preview tool, with a model that reasons."""
    web_search_preview_plain: PerCall = Decimal("0.025")
    """One search of the preview tool, with a model that does not reason."""
    web_search_block_tokens: int = Field(default=8_000, ge=0)
    """Input tokens billed for each web search of models that pay for found text in blocks."""
    file_search: PerCall = Decimal("0.0025")
    """One file search."""
    code_session: PerCall = Decimal("0.03")
    """One container of the code interpreter."""

    def fees(self) -> Fees:
        """Returns the fees in picodollars."""
        return Fees(
            web_search=parse_usd(self.web_search),
            web_search_preview=parse_usd(self.web_search_preview),
            web_search_preview_plain=parse_usd(self.web_search_preview_plain),
            web_search_block_tokens=self.web_search_block_tokens,
            file_search=parse_usd(self.file_search),
            code_session=parse_usd(self.code_session),
        )


class PriceFile(Section):
    """Prices, factors and fees that take precedence over the published ones."""

    prices: tuple[Price, ...] = ()
    """Prices of models; the best fitting name wins, then the newest price in force."""
    windows: dict[Window, Discount] = Field(default_factory=dict)
    """Factors on the default tier for background completion windows, besides the published ``{2h: 0.7, 8h: 0.6}``.
    The cost of a response with a window is an estimate; with one that has no factor, it is unknown."""
    regional: dict[str, Surcharge] = Field(default_factory=dict)
    """Factors on published prices for data residency, by model pattern, such as ``"gpt-6*": 1.1``."""
    auto_tiers: tuple[Literal["default", "flex", "priority", "scale", "ultrafast"], ...] = (
        "default",
        "flex",
        "priority",
    )
    """The tiers at which a request without one may be billed, by the project's setting; budgets allow for all."""
    unpriced_tier: UnpricedTier = UnpricedTier.UNKNOWN
    """What a response at a tier without a price costs: ``unknown``, or the price of ``default`` as an estimate."""
    fees: ToolFees = ToolFees()
    """What hosted tools cost in addition to their tokens."""

    @model_validator(mode="after")
    def _each_price_once(self) -> Self:
        seen: set[tuple[str, str, date | None]] = set()
        for price in self.prices:
            key = (price.model, price.tier, price.effective_from)
            if key in seen:
                since = f" from {price.effective_from}" if price.effective_from else ""
                raise ValueError(f"the price of {price.model} at tier {price.tier}{since} is given twice")
            seen.add(key)
        return self

    def rules(self, *, source: str, version: str) -> PriceRules:
        """Returns the rules for a ``PriceBook``; ``source`` and ``version`` are stored with each charge."""
        return PriceRules(
            overrides=tuple(price.override() for price in self.prices),
            windows={**WINDOWS, **self.windows},
            regional=dict(self.regional),
            auto_tiers=self.auto_tiers,
            unpriced_tier=self.unpriced_tier,
            fees=self.fees.fees(),
            source=source,
            version=version,
        )


def file_version(content: bytes) -> str:
    """Returns a version for the content of a file: the start of ``sha256sum FILE``."""
    return f"sha256:{sha256(content).hexdigest()[:16]}"
