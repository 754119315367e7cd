"""The figures that a scenario measures, with their bounds, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["AtLeast", "AtMost", "Figure", "as_json", "figure", "table_lines"]


@dataclass(frozen=True, slots=True)
class AtMost:
    """A figure that must not be larger."""

    limit: float

    def keeps(self, value: float) -> bool:
        return value <= self.limit

    def __str__(self) -> str:
        return f"≤ {_number(self.limit)}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A figure that must not be smaller."""

    limit: float

    def keeps(self, value: float) -> bool:
        return value >= self.limit

    def __str__(self) -> str:
        return f"≥ {_number(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One result: the median of its samples."""

    name: str
    samples: tuple[float, ...]
    unit: str
    bound: AtMost | AtLeast | None

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def kept(self) -> bool | None:
        """Whether the value keeps the bound; None if it has no bound."""
        return self.bound.keeps(self.value) if self.bound else None


def figure(name: str, samples: float | Sequence[float], unit: str, bound: AtMost | AtLeast | None = None) -> Figure:
    """A figure of one or several samples."""
    taken = (samples,) if isinstance(samples, float | int) else tuple(samples)
    return Figure(name, taken, unit, bound)


def table_lines(figures: Iterable[Figure]) -> list[str]:
    """One line per figure: value, unit, bound and verdict, and the range of the samples."""
    rows = [(each.name, f"{_number(each.value)} {each.unit}", *_verdict(each), _spread(each)) for each in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    name, *others = widths
    return [
        f"  {row[0]:<{name}}  {row[1]:>{others[0]}}  {row[2]:<{others[1]}}  {row[3]:<{others[2]}}  {row[4]}".rstrip()
        for row in rows
    ]


def as_json(each: Figure) -> dict[str, Any]:
    """One figure as a JSON object."""
    return {
        "name": each.name,
        "value": each.value,
        "unit": each.unit,
        "bound": str(each.bound) if each.bound else None,
        "kept": each.kept,
        "samples": list(each.samples),
    }


def _verdict(each: Figure) -> tuple[str, str]:
    return (str(each.bound or ""), {True: "ok", False: "MISSED", None: ""}[each.kept])


def _spread(each: Figure) -> str:
    if len(each.samples) == 1:
        return ""
    return f"({_number(min(each.samples))} … {_number(max(each.samples))})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
