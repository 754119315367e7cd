"""Samples of a run, so that a page opened late, and a report, have a history."""

from __future__ import annotations

from typing import Protocol

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars

__all__ = ["MOST_PULSES", "PULSE_PERIOD_S", "Pulse", "PulseStore", "pulse_number", "pulse_step"]

PULSE_PERIOD_S = 1.0
# Of one run; more would not be seen in a chart.
MOST_PULSES = 2_000


@fast_dataclass
class Pulse:
    """The counts of a run at one time; ``settled`` includes ``failed``, ``cost_pusd`` is what is known."""

    at: float
    settled: int
    failed: int
    in_flight: int
    attempts: int
    polls: int
    rate_limited: int
    cost_pusd: Picodollars


class PulseStore(Protocol):
    """The verb of a store for samples."""

    async def add_pulse(self, run_id: int, at: float) -> None:
        """Add a sample of a run's counts as they are stored; never waits, and may be lost in a crash.

        If a run has more than ``MOST_PULSES``, those between multiples of ``pulse_step`` are dropped.
        """
        ...


def pulse_number(at: float) -> int:
    """The period that a time lies in; a run has at most one sample in each."""
    return int(at // PULSE_PERIOD_S)


def pulse_step(first: int, last: int) -> int:
    """Of how many periods one sample is kept: a power of two, so that a longer run keeps a part of what it has."""
    step = 1
    while (last - first) // step >= MOST_PULSES:
        step *= 2
    return step
