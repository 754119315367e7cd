"""What a report computes of samples and of latencies: intervals of a run, percentiles, a histogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.stores.pulses import Pulse

__all__ = ["Bin", "Interval", "bins_of", "intervals_of", "percentile"]

# The edges of bins in a power of ten, in seconds.
_FINE = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
_COARSE = (1.0, 2.0, 5.0)
_FIRST_POWER, _LAST_POWER = -2, 7


@fast_dataclass
class Interval:
    """What a run did between two samples; ``in_flight`` and ``cost_pusd`` are those at its end."""

    begin: float
    end: float
    settled: int
    failed: int
    polls: int
    rate_limited: int
    in_flight: int
    all_settled: int
    all_failed: int
    cost_pusd: Picodollars

    def a_minute(self, number: int) -> float:
        """A number of the interval as a rate."""
        return 60 * number / (self.end - self.begin)


@fast_dataclass
class Bin:
    """How many rows took from ``low`` to ``high`` seconds."""

    low: float
    high: float
    rows: int


def intervals_of(pulses: Sequence[Pulse], most: int) -> list[Interval]:
    """At most so many intervals of about the same number of samples."""
    step = max(1, ceil((len(pulses) - 1) / most))
    chosen = [*pulses[:-1:step], *pulses[-1:]]
    return [
        Interval(
            begin=one.at,
            end=other.at,
            # A retry takes back that rows were settled.
            settled=max(0, other.settled - one.settled),
            failed=max(0, other.failed - one.failed),
            polls=max(0, other.polls - one.polls),
            rate_limited=max(0, other.rate_limited - one.rate_limited),
            in_flight=other.in_flight,
            all_settled=other.settled,
            all_failed=other.failed,
            cost_pusd=other.cost_pusd,
        )
        for one, other in pairwise(chosen)
        if other.at > one.at
    ]


def percentile(counts: Mapping[float, int], share: float) -> float | None:
    """The least value that this share of all does not exceed; None of nothing."""
    rank, seen = ceil(share * sum(counts.values())), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    return None


def bins_of(counts: Mapping[float, int], *, fine: bool) -> list[Bin]:
    """How many values are in each bin of a scale of equal ratios, without the empty ones at both ends."""
    edges = list(_edges(_FINE if fine else _COARSE))
    numbers = [0] * len(edges)
    for value, number in counts.items():
        # The first bin begins at zero, the last one has no end.
        place = next((place for place, edge in enumerate(edges) if value < edge), len(edges) - 1)
        numbers[place] += number
    bins = [
        Bin(low=0.0 if place == 0 else edges[place - 1], high=edge, rows=number)
        for place, (edge, number) in enumerate(zip(edges, numbers, strict=True))
    ]
    filled = [place for place, number in enumerate(numbers) if number]
    return bins[filled[0] : filled[-1] + 1] if filled else []


def _edges(steps: Sequence[float]) -> Iterator[float]:
    for power in range(_FIRST_POWER, _LAST_POWER):
        yield from (float(f"{step}e{power}") for step in steps)
