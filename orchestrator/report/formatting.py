"""Numbers for people: counts, durations, times and money."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.core.money import Bound, Picodollars

__all__ = ["at_most", "count", "date_time", "dollars", "duration", "rate", "short_count", "short_dollars", "stamp"]

_SCALES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_MICRO = 10**6


def count(number: int) -> str:
    """Returns ``1,234,567``."""
    return f"{number:,}"


def short_count(number: int) -> str:
    """Returns ``1.23 M``: three digits suffice for a number that changes."""
    for scale, letter in _SCALES:
        if number >= scale:
            value = number / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {letter}"
    return str(number)


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units: ``0.4 s``, ``41 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, large, step, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // step
            return f"{whole // size} {large} {rest} {small}" if rest else f"{whole // size} {large}"
    return f"{whole} s"


def rate(per_second: float) -> str:
    """Returns rows per unit of time, in a readable unit: ``84 rows/s``, ``12 rows/min``, ``3.5 rows/h``."""
    for factor, unit in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{_three_digits(per_second * factor)} rows/{unit}"
    return f"{_three_digits(per_second * 3600)} rows/h"


def _three_digits(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def dollars(amount: Picodollars) -> str:
    """Returns money to the millionth of a dollar: ``$1.20``, ``$0.000012``, ``under $0.000001``."""
    if 0 < amount < _MICRO // 2:
        return "under $0.000001"
    sign, micro = ("-", -amount) if amount < 0 else ("", amount)
    whole, fraction = divmod((micro + _MICRO // 2) // _MICRO, 10**6)
    return f"{sign}${whole:,}.{f'{fraction:06d}'.rstrip('0').ljust(2, '0')}"


def at_most(bound: Bound) -> str:
    """Returns ``at most $1.20``, and for how many responses no bound is known: those may have cost anything."""
    if not bound.unbounded:
        return f"at most {dollars(bound.bounded_pusd)}"
    if not bound.bounded_pusd:
        return "no bound is known"
    return f"at most {dollars(bound.bounded_pusd)} without {count(bound.unbounded)} for which no bound is known"


def short_dollars(amount: Picodollars) -> str:
    """Returns money that changes: in cents from ten dollars up, in hundredths of a cent below."""
    return f"${amount / 10**12:,.2f}" if amount >= 10**13 else f"${amount / 10**12:.4f}"


def stamp(at: float | None) -> str | None:
    """Returns a time for files, in whole seconds: ``2026-11-21T20:00:00Z``."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def date_time(at: float) -> str:
    """Returns a time for people, in UTC: ``2026-11-21 20:00:00``."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d %H:%M:%S")
