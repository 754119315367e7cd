"""What a provider's own account says was spent: costs and usage by the day."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.money import Picodollars

__all__ = ["Account", "BookedCost", "BookedUsage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedCost:
    """One amount of one day (UTC, ``2026-11-21``)."""

    day: str
    amount_pusd: Picodollars
    line_item: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedUsage:
    """The tokens of one day; ``model`` is None where the account does not tell models apart."""

    day: str
    model: str | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The two kinds of an account, each None where it was not given, and the days that it covers."""

    costs: tuple[BookedCost, ...] | None
    usage: tuple[BookedUsage, ...] | None
    days: frozenset[str]
