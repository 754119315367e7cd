"""Costs and usage per day as a provider's own account reports them."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars

__all__ = ["ProviderAccount", "ReportedCost", "ReportedUsage"]


@fast_dataclass
class ReportedCost:
    """One amount of one day (UTC, ``2026-11-21``)."""

    day: str
    amount_pusd: Picodollars
    line_item: str | None = None


@fast_dataclass
class ReportedUsage:
    """The tokens of one day; ``model`` is None if the account does not separate models."""

    day: str
    model: str | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@fast_dataclass
class ProviderAccount:
    """The costs and the usage of an account, each None if it was not given, and the days that it covers."""

    costs: tuple[ReportedCost, ...] | None
    usage: tuple[ReportedUsage, ...] | None
    days: frozenset[str]
