"""How long the responder takes for each response, in the order of creation; the same seed gives the same times."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Latency", "parse_latency"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Lognormal with this median (seconds) and sigma; a sigma of 0 is a fixed time."""

    median_s: float
    sigma: float = 0.0

    def draws(self, seed: int) -> Iterator[float]:
        """The latencies of the first, second, … response."""
        rng = random.Random(seed)
        while True:
            yield self.median_s * math.exp(rng.gauss(0.0, self.sigma)) if self.sigma else self.median_s

    def __str__(self) -> str:
        return f"{self.median_s:g}:{self.sigma:g}"


def parse_latency(text: str) -> Latency:
    """``"0.05"`` or ``"8:0.7"`` (median and sigma); raises ``ValueError``."""
    median, _, sigma = text.partition(":")
    return Latency(float(median), float(sigma or 0.0))
