"""What a provider's own account says was spent: costs and usage by the day."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.money import Picodollars

__all__ = ["ProviderAccount", "ReportedCost", "ReportedUsage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCost:
    """One amount of one day (UTC, ``2026-11-21``)."""

    day: str
    amount_pusd: Picodollars
    line_item: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedUsage:
    """The tokens of one day; ``model`` is None where the account does not tell models apart."""

    day: str
    model: str | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """The two kinds of an account, each None where it was not given, and the days that it covers."""

    costs: tuple[ReportedCost, ...] | None
    usage: tuple[ReportedUsage, ...] | None
    days: frozenset[str]
