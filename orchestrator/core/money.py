"""Money is integers: picodollars (1e-12 USD), so that sums are exact to the last digit."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["MOST_PICODOLLARS", "PICODOLLARS_PER_DOLLAR", "Bound", "Picodollars", "format_usd", "parse_usd"]

Picodollars: TypeAlias = int

PICODOLLARS_PER_DOLLAR = 10**12
# The largest integer of SQLite, about 9.2 million dollars; a larger sum is an error there, never a wrong number.
MOST_PICODOLLARS = 2**63 - 1


@fast_dataclass(kw_only=False)
class Bound:
    """The most that several responses of unknown cost can have cost.

    ``bounded_pusd`` is the sum of the known bounds; ``unbounded`` counts the responses for which none is known. A sum
    without those would look like a bound, so ``pusd`` is None as soon as there is one.
    """

    bounded_pusd: Picodollars = 0
    unbounded: int = 0

    @property
    def pusd(self) -> Picodollars | None:
        """The most that all of them can have cost; None if no bound is known for one."""
        return None if self.unbounded else self.bounded_pusd

    @property
    def usd(self) -> str | None:
        """The same in dollars, as scripts read it."""
        return None if self.unbounded else format_usd(self.bounded_pusd)

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.bounded_pusd + other.bounded_pusd, self.unbounded + other.unbounded)


def format_usd(amount: Picodollars) -> str:
    """Returns the exact amount in dollars as a plain decimal string: ``"1.234567"``, ``"0"``, ``"-0.5"``."""
    sign = "-" if amount < 0 else ""
    dollars, rest = divmod(abs(amount), PICODOLLARS_PER_DOLLAR)
    fraction = f"{rest:012d}".rstrip("0")
    return f"{sign}{dollars}.{fraction}" if fraction else f"{sign}{dollars}"


def parse_usd(text: str | int | Decimal) -> Picodollars:
    """Returns the picodollars of an amount in dollars.

    Raises ``ValueError`` if the text is not an amount, is finer than 1e-12, or exceeds what a database can count.
    """
    try:
        amount = Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(f"{text!r} is not an amount of dollars") from None
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not an amount of dollars")
    # The exponent is checked first, because "1e999999" has a million digits; then Fraction, because Decimal's own
    # arithmetic rounds numbers of more than 28 digits.
    place = amount.adjusted() if amount else 0
    exact = Fraction(amount) * PICODOLLARS_PER_DOLLAR if -12 <= place <= 12 else None
    if place < -12 or (exact is not None and exact.denominator != 1):
        raise ValueError(f"{text!r} is not an amount of dollars exact to 1e-12")
    if exact is None or abs(exact) > MOST_PICODOLLARS:
        raise ValueError(f"{text!r} is more dollars than can be counted")
    return int(exact)
