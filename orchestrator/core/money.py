"""Money is integers: picodollars (1e-12 USD), so that sums are exact to the last digit."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TypeAlias

__all__ = ["PICODOLLARS_PER_DOLLAR", "Picodollars", "format_usd", "parse_usd"]

Picodollars: TypeAlias = int

PICODOLLARS_PER_DOLLAR = 10**12


def format_usd(amount: Picodollars) -> str:
    """The exact amount in dollars as a plain decimal string: ``"1.234567"``, ``"0"``, ``"-0.5"``."""
    sign = "-" if amount < 0 else ""
    dollars, rest = divmod(abs(amount), PICODOLLARS_PER_DOLLAR)
    fraction = f"{rest:012d}".rstrip("0")
    return f"{sign}{dollars}.{fraction}" if fraction else f"{sign}{dollars}"


def parse_usd(text: str | int | Decimal) -> Picodollars:
    """Picodollars of an amount in dollars; raises ``ValueError`` for anything finer than 1e-12 or not finite."""
    try:
        amount = Decimal(text) * PICODOLLARS_PER_DOLLAR
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of dollars") from None
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise ValueError(f"{text!r} is not an amount of dollars exact to 1e-12")
    return int(amount)
