"""Figures as people read them: counts, spans of time, moments and money."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.core.money import Picodollars

__all__ = ["count", "dollars", "moment", "pace", "short_count", "short_dollars", "span", "stamp"]

_SCALES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_MICRO = 10**6


def count(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def short_count(number: int) -> str:
    """``1.23 M``: three digits are enough where the figure moves."""
    for scale, letter in _SCALES:
        if number >= scale:
            value = number / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {letter}"
    return str(number)


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``0.4 s``, ``41 s``, ``12 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, large, step, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // step
            return f"{whole // size} {large} {rest} {small}" if rest else f"{whole // size} {large}"
    return f"{whole} s"


def pace(per_second: float) -> str:
    """Rows in the unit that gives a readable figure: ``84 rows/s``, ``12 rows/min``, ``3.5 rows/h``."""
    for factor, unit in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{_three_digits(per_second * factor)} rows/{unit}"
    return f"{_three_digits(per_second * 3600)} rows/h"


def _three_digits(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def dollars(amount: Picodollars) -> str:
    """Money to the millionth of a dollar and at least two decimals: ``$1.20``, ``$0.000012``, ``under $0.000001``."""
    if 0 < amount < _MICRO // 2:
        return "under $0.000001"
    sign, micro = ("-", -amount) if amount < 0 else ("", amount)
    whole, fraction = divmod((micro + _MICRO // 2) // _MICRO, 10**6)
    return f"{sign}${whole:,}.{f'{fraction:06d}'.rstrip('0').ljust(2, '0')}"


def short_dollars(amount: Picodollars) -> str:
    """Money where the figure moves: cents from ten dollars up, hundredths of a cent below."""
    return f"${amount / 10**12:,.2f}" if amount >= 10**13 else f"${amount / 10**12:.4f}"


def stamp(at: float | None) -> str | None:
    """A moment as files carry it, in whole seconds: ``2026-11-21T20:00:00Z``."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(at: float) -> str:
    """A moment as people read it, in UTC: ``2026-11-21 20:00:00``."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d %H:%M:%S")
