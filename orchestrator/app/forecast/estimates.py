"""Estimates what a job will take and cost before it is sent: as ranges, with their basis.

A range holds the true figure unless the rows or the provider are unlike what it rests on; a forecast is no cap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from orchestrator.app.forecast.request_size import Counting, Measured, RequestSize
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane
from orchestrator.core.model import PastUse, UnitPrice
from orchestrator.core.money import Picodollars
from orchestrator.policy.pricing.price_rules import tier_of
from orchestrator.policy.pricing.prices import PriceBook

__all__ = [
    "Basis",
    "Estimate",
    "Forecast",
    "LaneForecast",
    "LeastTime",
    "Span",
    "StageForecast",
    "Variant",
    "basis",
    "estimate",
    "least_time",
    "variants",
]

# A predicted sum lies within this many standard errors of the true one.
_ERRORS = 3.0
# What earlier answers say of later ones is never trusted to be nearer than this.
_LEAST_DOUBT = 0.05


class Basis(StrEnum):
    """The basis of the range of the output."""

    CAP = "max_output_tokens"
    PAST = "earlier-runs"
    NOTHING = "nothing"


@fast_dataclass
class Span:
    """A figure between ``low`` and ``high``; None if it is unknown, or has no bound."""

    low: int
    likely: int | None
    high: int | None

    def __add__(self, other: Span) -> Span:
        return Span(
            low=self.low + other.low,
            likely=_sum(self.likely, other.likely),
            high=_sum(self.high, other.high),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@fast_dataclass
class Variant:
    """A model, a service tier and a completion window that the same requests could be sent with."""

    model: str | None = None
    tier: str | None = None
    window: str | None = None


@fast_dataclass
class Estimate:
    """What all requests of a job take and cost. ``cost`` is None if a price is not known."""

    variant: Variant
    input_tokens: Span
    output_tokens: Span
    cost: Span | None
    price_estimated: bool = False


@fast_dataclass
class LeastTime:
    """The shortest time of a run; ``held_by`` names the limit. None if no limit and no latency is known."""

    seconds: float | None
    held_by: str | None


def least_time(
    measured: Measured,
    *,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    max_in_flight: int,
    past: PastUse | None = None,
) -> LeastTime:
    """How long the requests take at least: by the limits, and by how many responses of usual length may be open."""
    counted = sum(size.input_tokens + (size.max_output_tokens or 0) for size in measured.sizes) * measured.scale
    latency_s = past.seconds / past.responses if past is not None and past.responses else None
    bounds: dict[str, float] = {}
    if requests_per_minute:
        bounds["the requests per minute"] = measured.rows * 60 / requests_per_minute
    if tokens_per_minute:
        bounds["the tokens per minute"] = counted * 60 / tokens_per_minute
    if latency_s is not None:
        bounds["the places for open responses"] = measured.rows * latency_s / max_in_flight
    if not bounds:
        return LeastTime(seconds=None, held_by=None)
    held_by = max(bounds, key=bounds.__getitem__)
    return LeastTime(seconds=bounds[held_by] + (latency_s or 0.0), held_by=held_by)


@fast_dataclass
class LaneForecast:
    """One lane: its cost, the time in which all is done, the chance to be done by the deadline, and the reason.

    ``half_pusd`` and ``all_pusd`` are what it comes to, likely or at most, if half or all of the rows must be sent at
    the standard price in the end. ``chosen`` marks the lane that the run would begin with.
    """

    lane: Lane
    cost: Span | None
    ends_in_s: float | None
    chance: float | None
    half_pusd: Picodollars | None
    all_pusd: Picodollars | None
    chosen: bool
    why: str = ""


@fast_dataclass
class Forecast:
    """What a job will take and cost, and what that rests on.

    ``requests`` are those of ``rows`` that are sent: equal ones are asked once. ``rows_counted`` is False if their
    number is estimated from the size of the input. ``learned_from`` are the runs whose answers give the length;
    ``learned_model`` is their model, if it is not the job's. ``raised_to`` is the cap of a second attempt after an
    answer that was cut off.
    """

    job: str
    models: tuple[str, ...]
    rows: int
    requests: int
    rows_counted: bool
    measured: int
    counting: Counting
    basis: Basis
    learned_from: tuple[str, ...]
    learned_model: str | None
    estimate: Estimate
    compared: tuple[Estimate, ...]
    raised_to: int | None
    time: LeastTime
    budget_pusd: Picodollars | None
    # Requests that earlier runs have already, beside ``requests``; None: some may be, and how many was not counted.
    reused: int | None = 0
    # Of a job with stages: each of them, and the most that all can cost, whatever the answers are.
    stages: tuple[StageForecast, ...] = ()
    worst_pusd: Picodollars | None = None
    # What it would be in each lane that the job may take; empty if it has no use for a slower one.
    lanes: tuple[LaneForecast, ...] = ()


@fast_dataclass
class StageForecast:
    """What one stage of a job will take and cost. Where its rows depend on answers, their number is a range.

    ``reused`` and ``failing`` are not among ``requests``: they have answers of earlier runs, or cannot be sent.
    """

    name: str
    models: tuple[str, ...]
    requests: Span
    reused: int | None
    duplicates: int
    failing: int
    basis: Basis
    learned_from: tuple[str, ...]
    estimate: Estimate
    compared: tuple[Estimate, ...]
    worst_pusd: Picodollars | None


def variants(models: Sequence[str], windows: Sequence[str]) -> list[Variant]:
    """Each model at the tiers and in the windows that make it cheaper, and at the default tier."""
    return [
        each
        for model in models
        for each in (
            Variant(model=model, tier="default"),
            Variant(model=model, tier="flex"),
            Variant(model=model, tier="batch"),
            *(Variant(model=model, tier="default", window=window) for window in windows),
        )
    ]


def estimate(
    measured: Measured,
    prices: PriceBook,
    *,
    at: float,
    past: PastUse | None = None,
    raised_to: int | None = None,
    variant: Variant | None = None,
) -> Estimate:
    """What the requests cost as they are, or as a variant.

    Without ``past``, an answer has any length up to ``max_output_tokens``, and is asked for again with ``raised_to``
    where the job does so. With it, answers are taken to be as long as earlier ones were, all attempts of a request
    together. A request without a tier is taken to be billed at the default one.
    """
    variant = variant or Variant()
    sums = _Sums(measured, past if past is not None and past.requests else None, raised_to)
    priced = [_unit_price(size, prices, variant, at) for size in measured.sizes]
    known = [price for price in priced if price is not None]
    return Estimate(
        variant=variant,
        input_tokens=sums.input(),
        output_tokens=sums.output(),
        cost=sums.cost(known) if len(known) == len(priced) else None,
        price_estimated=any(price.estimated for price in known),
    )


def basis(measured: Measured, past: PastUse | None) -> Basis:
    """The basis of the range of the output."""
    if past is not None and past.requests:
        return Basis.PAST
    return Basis.CAP if all(size.max_output_tokens for size in measured.sizes) else Basis.NOTHING


class _Sums:
    """The sums over a job's requests, as ranges."""

    def __init__(self, measured: Measured, past: PastUse | None, raised_to: int | None) -> None:
        self._sizes = measured.sizes
        self._measured = measured
        self._past = past
        self._raised_to = raised_to
        # How often a request is sent, as a mean and at most: those that were cut off may be asked for again.
        self._turns = past.responses / past.requests if past else 1.0
        self._most_turns = 2.0 if past is None and raised_to is not None else self._turns
        # From tokens counted here to those of all rows.
        self._whole = measured.scale * measured.correction
        # Text of which the requests say nothing: what tools find, files, earlier turns.
        self._unseen = any(size.open_ended for size in measured.sizes)
        self._found = self._found_tokens() if self._unseen else 0.0

    def input(self) -> Span:
        tokens = sum(size.input_tokens for size in self._sizes) * self._whole
        error = self._measured.error
        high = tokens * self._most_turns * (1 + error) + 2 * self._found
        return Span(
            low=_down(tokens * (1 - error)),
            likely=None if self._unseen and not self._past else round(tokens * self._turns + self._found),
            high=None if self._unseen and not self._past else _up(high),
        )

    def output(self) -> Span:
        rows, rows_error = self._measured.rows, self._measured.rows_error
        if self._past is not None:
            total = self._past.output_tokens / self._past.requests * rows
            margin = total * (rows_error + _LEAST_DOUBT) + _prediction_error(self._past, rows)
            return Span(low=_down(total - margin), likely=round(total), high=_up(total + margin))
        if not all(size.max_output_tokens for size in self._sizes):
            return Span(low=0, likely=None, high=None)
        most = sum(self._most_output(size) for size in self._sizes) * self._measured.scale
        return Span(low=0, likely=None, high=_up(most * (1 + rows_error)))

    def cost(self, priced: Sequence[UnitPrice]) -> Span:
        """``priced`` are the unit prices of each request."""
        if all(price.source == "free" for price in priced):
            return Span(low=0, likely=None, high=0)
        sizes, error, output, fees = self._sizes, self._measured.error, self.output(), self._fees()
        pairs = list(zip(sizes, priced, strict=True))
        rate_out = sum(price.output for price in priced) / max(1, len(priced))
        rate_in = sum(price.input for price in priced) / max(1, len(priced))
        least_in = sum(size.input_tokens * price.input - _saving(size, price) for size, price in pairs)
        most_in = sum(size.input_tokens * _highest_rate(size, price) for size, price in pairs)
        low = least_in * self._whole * (1 - error) + output.low * rate_out + fees.low
        high = likely = None
        if self._past is not None and output.likely is not None and output.high is not None:
            usual_in = sum(size.input_tokens * _usual_rate(price, self._past) for size, price in pairs)
            answers = output.likely * rate_out + self._found * rate_in + (fees.likely or 0)
            likely = usual_in * self._whole * self._turns + answers
            answers = output.high * rate_out + 2 * self._found * rate_in + (fees.high or 0)
            high = most_in * self._whole * self._turns * (1 + error) + answers
            # More than the beginning they share can come from the cache: rows that are alike, or were sent twice.
            low = min(low, likely * (1 - error - _LEAST_DOUBT))
        elif output.high is not None and not self._unseen:
            answers = sum(self._most_output(size) * price.output for size, price in pairs)
            answers *= self._measured.scale * (1 + self._measured.rows_error)
            high = most_in * self._whole * self._most_turns * (1 + error) + answers
        return Span(
            low=_down(low),
            likely=None if likely is None else round(likely),
            high=None if high is None else _up(high),
        )

    def _most_output(self, size: RequestSize) -> int:
        return (size.max_output_tokens or 0) + (self._raised_to or 0)

    def _found_tokens(self) -> float:
        """Input that earlier requests had beyond their own text, for all rows."""
        if self._past is None or not self._sizes:
            return 0.0
        own = sum(size.input_tokens for size in self._sizes) / len(self._sizes) * self._measured.correction
        return max(0.0, self._past.input_tokens / self._past.requests - own * self._turns) * self._measured.rows

    def _fees(self) -> Span:
        """What calls of hosted tools cost; their number is known only from earlier requests."""
        if self._past is None:
            return Span(low=0, likely=None, high=None)
        usual = self._past.fees_pusd / self._past.requests * self._measured.rows
        return Span(low=0, likely=round(usual), high=_up(usual * 2))


def _prediction_error(past: PastUse, rows: int) -> float:
    """By how much the sum over new rows may differ from what the mean of the old ones says."""
    mean = past.output_tokens / past.requests
    if past.requests < 2:
        return mean * rows
    variance = max(0.0, past.output_squares / past.requests - mean * mean)
    return _ERRORS * math.sqrt(variance * (rows + rows * rows / past.requests))


def _saving(size: RequestSize, price: UnitPrice) -> Picodollars:
    """What is saved where the beginning that requests share is read from the cache."""
    return size.shared_tokens * (price.input - price.cached)


def _highest_rate(size: RequestSize, price: UnitPrice) -> Picodollars:
    """The highest price that an input token of the request may have."""
    return max(price.input, price.cache_write, price.cache_write_12h if size.writes_12h else 0)


def _usual_rate(price: UnitPrice, past: PastUse) -> float:
    """The price of an input token, with as much of it read from and written to the cache as before."""
    if not past.input_tokens:
        return float(price.input)
    read, written = past.cached_tokens / past.input_tokens, past.cache_write_tokens / past.input_tokens
    return (1 - read - written) * price.input + read * price.cached + written * price.cache_write


def _unit_price(size: RequestSize, prices: PriceBook, variant: Variant, at: float) -> UnitPrice | None:
    if variant.model is None:
        by_size = tier_of(size.tier) or "default"
        variant = Variant(model=size.model, tier=variant.tier or by_size, window=variant.window or size.window)
    model, tier, window = variant.model or "", variant.tier, variant.window
    return prices.price(model, tier, at=at, input_tokens=size.input_tokens, window=window)


# ── Figures ───────────────────────────────────────────────────────────────────────────────────────────────────


def _down(value: float) -> int:
    return max(0, math.floor(value))


def _up(value: float) -> int:
    return math.ceil(value)
