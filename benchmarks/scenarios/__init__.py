"""One scenario per file: what is set up, what is measured, and the bounds of the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.figures import Figure

__all__ = ["Extent", "Scenario"]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done: ``full`` takes the million rows and the long latencies, and an hour."""

    full: bool
    rounds: int


Scenario: TypeAlias = Callable[[Extent], Iterator[Figure]]
