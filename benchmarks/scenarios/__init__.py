"""One scenario per file: what is set up, what is measured, and the bounds of the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.figures import Figure

__all__ = ["Extent", "Scenario"]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much to run: ``full`` has a million rows and long latencies, and takes an hour."""

    full: bool
    rounds: int


Scenario: TypeAlias = Callable[[Extent], Iterator[Figure]]
