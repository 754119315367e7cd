"""What a response cost, exactly, or the most it can have cost.

A response is billed by the model and the service tier that it names itself, at the prices of the day on which it was
requested. If the price or the usage is unknown, so is the cost, and it is never zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from orchestrator.core.model import Charge, Response, ToolUse, UnitPrice, Usage
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.price_rules import PriceRules, UnpricedTier, tier_of
from orchestrator.policy.pricing.published import published_rates, published_version
from orchestrator.policy.pricing.rates import Rate, Rates
from orchestrator.policy.pricing.tokens import may_write_12h, upper_bound_tokens
from orchestrator.policy.pricing.tool_fees import (
    highest_fee,
    image_cost,
    makes_images,
    paid_tools,
    search_fee,
    searches_of,
)
from orchestrator.policy.pricing.unlisted import unlisted_prices

__all__ = ["Bounds", "PriceBook", "charge"]

_SECONDS_A_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
# No published tier costs more than this multiple of the default one (ultrafast); it bounds a tier without a price.
_HIGHEST_TIER_FACTOR = 6


def charge(usage: Usage, tool_use: ToolUse, price: UnitPrice) -> Picodollars:
    """Returns the exact cost of a usage. Cached and written tokens are part of the input, reasoning of the output.

    Counts that contradict each other (more cached than input) never lower it: reported tokens are charged, and the
    uncached rest counts as zero.
    """
    fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    return (
        fresh * price.input
        + usage.cached_tokens * price.cached
        + (usage.cache_write_tokens - usage.cache_write_12h_tokens) * price.cache_write
        + usage.cache_write_12h_tokens * price.cache_write_12h
        + usage.output_tokens * price.output
        + tool_use.web_searches * price.fee_web_search
        + tool_use.file_searches * price.fee_file_search
        + tool_use.code_sessions * price.fee_code_session
    )


class _Case(NamedTuple):
    """All that decides unit prices, except the length of the input."""

    model: str
    asked: str
    tier: str
    window: str | None
    day: int
    searches: frozenset[str]
    inferred: bool


class _Found(NamedTuple):
    rates: Rates
    source: str
    version: str


# Unit prices by the input length above which they hold, as in ``Rates``.
_Quote: TypeAlias = tuple[tuple[int, UnitPrice | None], ...]


class Bounds(NamedTuple):
    """The most that one request can use: tokens, and calls of tools that have a fee."""

    input_tokens: int
    output_tokens: int
    paid_tools: frozenset[str] = frozenset()
    tool_calls: int = 0
    # Whether it may write to the cache for twelve hours.
    writes_12h: bool = False

    @classmethod
    def of(
        cls,
        input_tokens: int | None,
        max_output_tokens: int | None,
        *,
        tools: Collection[str] = (),
        max_tool_calls: int | None = None,
        writes_12h: bool = False,
    ) -> Bounds | None:
        """Returns the bounds of a request with tools of these types; None if something is unbounded."""
        paid = paid_tools(tools)
        if input_tokens is None or max_output_tokens is None or paid is None or (paid and max_tool_calls is None):
            return None
        return cls(input_tokens, max_output_tokens, paid, max_tool_calls or 0, writes_12h)

    def at(self, quote: _Quote | None) -> Picodollars | None:
        """Returns the most it can cost at these prices; None if one of the prices that may apply is unknown."""
        if quote is None:
            return None
        most = 0
        for above, price in quote:
            if above and self.input_tokens <= above:
                continue
            if price is None:
                return None
            highest_input = max(price.input, price.cached, price.cache_write)
            if self.writes_12h:
                highest_input = max(highest_input, price.cache_write_12h)
            fees = self.tool_calls * highest_fee(price, self.paid_tools) if self.paid_tools else 0
            most = max(most, self.input_tokens * highest_input + self.output_tokens * price.output + fees)
        return most


class PriceBook:
    """Unit prices by model, service tier, day and input length; a user's own take precedence over published ones.

    The first use loads the published prices, which takes about half a second; ``load`` does it ahead of time.
    """

    def __init__(self, rules: PriceRules | None = None) -> None:
        self._rules = rules or PriceRules()
        self._quotes: dict[_Case, _Quote | None] = {}
        self._known_quotes: dict[tuple[Any, ...], tuple[_Quote | None, tuple[_Quote | None, ...]]] = {}

    @property
    def windows(self) -> tuple[str, ...]:
        """The completion windows that have a factor, and so a price."""
        return tuple(self._rules.windows)

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything."""
        return self._rules.free

    def load(self) -> None:
        """Load the published prices now, so that a run does not pause for it."""
        self.price("", None, at=0.0, input_tokens=0)

    def price(
        self, model: str, tier: str | None, *, at: float, input_tokens: int, window: str | None = None
    ) -> UnitPrice | None:
        """Returns the unit prices of one request; None if they are unknown.

        ``at`` is when it was sent (Unix seconds): prices change at midnight UTC. ``window`` is the requested
        background completion window. A request longer than 272,000 tokens may have other prices.
        """
        if self._rules.free:
            return _free(model)
        known = tier_of(tier)
        case = _Case(model, model, known or "default", _window(window), _day(at), frozenset(), known is None)
        return _pick(self._quote(case), input_tokens)

    def charge_response(
        self,
        response: Response,
        *,
        requested_model: str | None,
        requested_tier: str | None,
        at: float,
        window: str | None = None,
        worst_case: Picodollars | None = None,
    ) -> Charge:
        """Returns the charge of a response that has ended: exact, or unknown with an upper bound.

        ``at`` is when the request was sent, and ``worst_case`` what was reserved for it then. Negative counts are no
        usage. The price is marked as estimated if counts contradict each other or leave open what is billed, and if
        it follows from the request because the response does not name its model or tier.
        """
        usage, tool_use = response.usage, response.tool_use
        if self._rules.free:
            free = _free(response.model or requested_model or "")
            return Charge(usage=usage, cost_pusd=0, upper_bound_pusd=None, price=free, tool_use=tool_use)
        if usage is None or _is_negative(usage):
            return Charge(usage=None, cost_pusd=None, upper_bound_pusd=worst_case, price=None, tool_use=tool_use)
        echoed = tier_of(response.service_tier)
        model = response.model or requested_model or ""
        case = _Case(
            model,
            requested_model or model,
            echoed or tier_of(requested_tier) or "default",
            _window(window),
            _day(at),
            searches_of(response),
            echoed is None or response.model is None,
        )
        price, bound = _pick(self._quote(case), usage.input_tokens), worst_case
        images: tuple[Picodollars, bool] | None = (0, False)
        if makes_images(response):
            images = image_cost(response, date.fromordinal(_EPOCH + case.day))
        elif price is None:
            bound = self._bound(case, usage, tool_use, otherwise=worst_case)
        if price is None or images is None:
            return Charge(usage=usage, cost_pusd=None, upper_bound_pusd=bound, price=None, tool_use=tool_use)
        image_pusd, is_guess = images
        if is_guess or response.uncertain_use or _is_doubtful(usage, price):
            price = replace(price, estimated=True)
        return Charge(
            usage=usage,
            cost_pusd=charge(usage, tool_use, price) + image_pusd,
            upper_bound_pusd=None,
            price=price,
            tool_use=tool_use,
            image_pusd=image_pusd,
        )

    def worst_case_of(self, fields: Mapping[str, Any], *, at: float, context_tokens: int = 0) -> Picodollars | None:
        """Returns the most that the body of a ``POST /v1/responses`` can cost; None if it is unbounded.

        ``context_tokens`` are those of earlier turns, which the model reads in addition to the body.
        """
        if self._rules.free:
            return 0
        model, tier, cap = fields.get("model"), fields.get("service_tier"), fields.get("max_output_tokens")
        if not isinstance(model, str) or not isinstance(cap, int) or not (tier is None or isinstance(tier, str)):
            return None
        input_tokens = upper_bound_tokens(fields)
        if input_tokens is None:
            return None
        calls = fields.get("max_tool_calls")
        bounds = Bounds.of(
            input_tokens + context_tokens,
            cap,
            tools=[str(tool.get("type")) for tool in fields.get("tools") or ()],
            max_tool_calls=calls if isinstance(calls, int) else None,
            writes_12h=may_write_12h(fields),
        )
        if bounds is None:
            return None
        options = fields.get("background_options")
        window = options.get("completion_window") if isinstance(options, dict) else None
        return self.worst_case(model, tier, bounds, at=at, window=window)

    def worst_case(
        self, model: str, tier: str | None, bounds: Bounds, *, at: float, window: str | None = None
    ) -> Picodollars | None:
        """Returns the most that a request can cost at any tier at which it may be billed; None if unknown.

        A completion window gives no discount. A tier without a price for the model counts as the most expensive one;
        but a request without a tier, or with ``auto``, is not billed at a tier that its model lacks.
        """
        if self._rules.free:
            return 0
        asked = tier_of(tier)
        by_default, by_others = self._quotes_of(model, asked, _window(window), _day(at), bounds.paid_tools)
        default = bounds.at(by_default)
        if default is None:
            return None
        worst = 0 if asked == "batch" else default
        for quote in by_others:
            cost = bounds.at(quote)
            worst = max(worst, default * _HIGHEST_TIER_FACTOR if cost is None else cost)
        return worst

    def _quotes_of(
        self, model: str, asked: str | None, window: str | None, day: int, paid: frozenset[str]
    ) -> tuple[_Quote | None, tuple[_Quote | None, ...]]:
        """Returns the prices of a request at the default tier, and the others that may apply to it."""
        key = (model, asked, window, day, paid)
        known = self._known_quotes.get(key)
        if known is None:
            case = _Case(model, model, "default", None, day, paid, False)
            others = [
                self._quote(case._replace(tier=each)) for each in ((asked,) if asked else self._rules.auto_tiers)
            ]
            if asked is None:
                others = [quote for quote in others if quote is not None]
            if window and (quote := self._quote(case._replace(window=window))) is not None:
                others.append(quote)
            default = self._quote(case)
            known = self._known_quotes[key] = default, tuple(quote for quote in others if quote is not default)
        return known

    def _bound(
        self, case: _Case, usage: Usage, tool_use: ToolUse, *, otherwise: Picodollars | None
    ) -> Picodollars | None:
        """Returns the most that a usage can have cost at a tier, or in a completion window, without a known price."""
        price = _pick(self._quote(case._replace(tier="default", window=None)), usage.input_tokens)
        if price is None:
            return otherwise
        cost = charge(usage, tool_use, price)
        return cost if case.tier == "default" else cost * _HIGHEST_TIER_FACTOR

    def _quote(self, case: _Case) -> _Quote | None:
        try:
            return self._quotes[case]
        except KeyError:
            quote = self._quotes[case] = self._look_up(case)
            return quote

    def _look_up(self, case: _Case) -> _Quote | None:
        tier, found = case.tier, None
        estimated = case.inferred
        if case.window is None or tier != "default":
            found = self._find(case, tier)
        else:
            tier = f"default:{case.window}"
            found = self._find(case, tier) or self._discounted(case, self._rules.windows.get(case.window))
        if found is None and case.tier != "default" and self._rules.unpriced_tier is UnpricedTier.DEFAULT:
            found, estimated = self._find(case, "default"), True
        if found is None:
            return None
        return tuple(
            (above, None if rate is None else self._unit_price(case, tier, rate, found, estimated=estimated))
            for above, rate in found.rates.steps
        )

    def _find(self, case: _Case, tier: str) -> _Found | None:
        day = date.fromordinal(_EPOCH + case.day)
        bare_tier, _, window = tier.partition(":")
        published = published_rates(case.model, bare_tier, day)
        # A price for the requested name (a deployment, a gateway's alias) applies to the model that answers.
        for name in (case.model, case.asked):
            if override := self._rules.override(name, tier, day):
                return _Found(override.rates(published), self._rules.source, self._rules.version)
        if window:
            return None
        if published is None:
            return self._find_unlisted(case.model, tier, day)
        factor = self._rules.regional_factor(case.model)
        return _Found(published.times(factor) if factor else published, "genai-prices", published_version())

    def _find_unlisted(self, model: str, tier: str, day: date) -> _Found | None:
        unlisted = unlisted_prices()
        override = unlisted.override(model, tier, day)
        if override is None:
            return None
        rates, factor = override.rates(None), self._rules.regional_factor(model)
        return _Found(rates.times(factor) if factor else rates, unlisted.source, unlisted.version)

    def _discounted(self, case: _Case, factor: Decimal | None) -> _Found | None:
        found = self._find(case, "default")
        if found is None or factor is None:
            return None
        return found._replace(rates=found.rates.times(factor).inferred())

    def _unit_price(self, case: _Case, tier: str, rate: Rate, found: _Found, *, estimated: bool) -> UnitPrice:
        fees = self._rules.fees
        fee, is_estimate = search_fee(fees, case.model, case.searches, input_price=rate.input)
        return UnitPrice(
            model=case.model,
            tier=tier,
            input=rate.input,
            cached=rate.cached,
            cache_write=rate.cache_write,
            cache_write_12h=rate.cache_write_12h,
            output=rate.output,
            source=found.source,
            version=found.version,
            fee_web_search=fee,
            fee_file_search=fees.file_search,
            fee_code_session=fees.code_session,
            estimated=rate.estimated or estimated or is_estimate,
        )


@lru_cache(maxsize=256)
def _free(model: str) -> UnitPrice:
    return UnitPrice(
        model=model,
        tier="default",
        input=0,
        cached=0,
        cache_write=0,
        cache_write_12h=0,
        output=0,
        source="free",
        version="",
    )


def _pick(quote: _Quote | None, input_tokens: int) -> UnitPrice | None:
    if quote is None:
        return None
    chosen = quote[0][1]
    for above, price in quote[1:]:
        if input_tokens > above:
            chosen = price
    return chosen


def _day(at: float) -> int:
    return int(at // _SECONDS_A_DAY)


def _window(window: str | None) -> str | None:
    return None if window == "soonest" else window


def _is_doubtful(usage: Usage, price: UnitPrice) -> bool:
    """Whether counts contradict each other, or a lifetime is reported whose price the model does not have."""
    if usage.cached_tokens + usage.cache_write_tokens > usage.input_tokens:
        return True
    return usage.cache_write_12h_tokens > 0 and price.cache_write <= price.input


def _is_negative(usage: Usage) -> bool:
    return min(usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens) < 0
