"""The fault plan: which faults and durations are drawn for a call, from the seed and the call's ordinal alone.

What is drawn does not depend on the time or on other calls, so the same seed repeats the same faults and latencies,
and switching one fault on leaves what is drawn of the other groups unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from statistics import NormalDist

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.sandbox_settings import (
    BATCH_FAULTS,
    DELIVERY_FAULTS,
    ENDING_FAULTS,
    FILE_FAULTS,
    POLL_FAULTS,
    QUIRKS,
    REFUSAL_FAULTS,
    STREAM_FAULTS,
    Faults,
    Lognormal,
    SandboxSettings,
    Spread,
    Uniform,
)

__all__ = ["DrawnFaults", "FaultPlan", "draw_duration"]

_STANDARD_NORMAL = NormalDist()
_LONGEST_BROKEN_STREAM = 12


@fast_dataclass
class DrawnFaults:
    """The faults and durations drawn for one create: at most one fault of each group (``None``: no fault)."""

    refusal: str | None
    delivery: str | None
    ending: str | None
    quirk: str | None
    queue_s: float
    run_s: float


class FaultPlan:
    """Draws the faults and durations of each call from the settings' seed."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._seed = settings.seed
        self._latency = settings.latency
        self._refusals = _shares(settings.faults, REFUSAL_FAULTS)
        self._deliveries = _shares(settings.faults, DELIVERY_FAULTS)
        self._endings = _shares(settings.faults, ENDING_FAULTS)
        self._quirks = _shares(settings.faults, QUIRKS)
        self._streams = _shares(settings.faults, STREAM_FAULTS)
        self._polls = _shares(settings.faults, POLL_FAULTS)
        self._batches = _shares(settings.faults, BATCH_FAULTS)
        self._files = _shares(settings.faults, FILE_FAULTS)
        self._calm_after = settings.faults.calm_after
        self._calm_batches_after = settings.faults.calm_batches_after

    def of_create(self, ordinal: int) -> DrawnFaults:
        """What is drawn for the create number ``ordinal``."""
        return self._draw(Random(f"{self._seed}:create:{ordinal}"), ordinal)

    def of_line(self, ordinal: int) -> DrawnFaults:
        """What is drawn for the batch line number ``ordinal``: only how it ends, and when."""
        drawn = self._draw(Random(f"{self._seed}:line:{ordinal}"), ordinal)
        return replace(drawn, refusal=None, delivery=None, quirk=None)

    def of_batch(self, ordinal: int) -> float:
        """How long the batch number ``ordinal`` is validated, in seconds."""
        return draw_duration(self._latency.queue, Random(f"{self._seed}:batch:{ordinal}"))

    def fault_of_batch(self, ordinal: int) -> str | None:
        """The fault that strikes the batch number ``ordinal``, if any."""
        return self._of_batches(self._batches, "batch-fault", ordinal)

    def fault_of_file(self, ordinal: int) -> str | None:
        """The fault that strikes the upload number ``ordinal`` of a batch's input, if any."""
        return self._of_batches(self._files, "file-fault", ordinal)

    def _of_batches(self, shares: Sequence[tuple[float, str]], kind: str, ordinal: int) -> str | None:
        if self._calm_batches_after is not None and ordinal > self._calm_batches_after:
            return None
        return _pick(shares, Random(f"{self._seed}:{kind}:{ordinal}").random()) if shares else None

    def _draw(self, rng: Random, ordinal: int) -> DrawnFaults:
        chances = [rng.random() for _ in range(4)]
        if self._calm_after is not None and ordinal > self._calm_after:
            chances = [1.0] * 4
        return DrawnFaults(
            refusal=_pick(self._refusals, chances[0]),
            delivery=_pick(self._deliveries, chances[1]),
            ending=_pick(self._endings, chances[2]),
            quirk=_pick(self._quirks, chances[3]),
            queue_s=draw_duration(self._latency.queue, rng),
            run_s=draw_duration(self._latency.run, rng),
        )

    def of_poll(self, ordinal: int) -> str | None:
        """The fault that strikes the poll number ``ordinal``, if any."""
        # The word in the seed decides what is drawn: changing it would change every rehearsal.
        return _pick(self._polls, Random(f"{self._seed}:look:{ordinal}").random()) if self._polls else None

    def of_stream(self, ordinal: int) -> tuple[str | None, int]:
        """The fault that ends the stream number ``ordinal``, if any, and after how many events."""
        rng = Random(f"{self._seed}:stream:{ordinal}")
        after = rng.randint(1, _LONGEST_BROKEN_STREAM)
        return _pick(self._streams, rng.random()), after

    def reply_s(self, call: str, ordinal: int) -> float:
        """The delay of the reply to the call number ``ordinal`` of a kind, in seconds."""
        if not self._latency.reply:
            return 0.0
        return draw_duration(self._latency.reply, Random(f"{self._seed}:reply:{call}:{ordinal}"))


def draw_duration(spread: Spread, rng: Random) -> float:
    """Seconds drawn from the distribution; takes exactly one number from ``rng``, whatever the distribution."""
    chance = rng.random()
    match spread:
        case Uniform(from_s=low, to_s=high):
            return low + (high - low) * chance
        case Lognormal(median_s=median, sigma=sigma):
            return median * math.exp(sigma * _normal_quantile(chance))
        case fixed:
            return fixed


def _normal_quantile(chance: float) -> float:
    """The quantile of the standard normal distribution, kept within six sigmas."""
    return _STANDARD_NORMAL.inv_cdf(min(max(chance, 1e-9), 1 - 1e-9))


def _shares(faults: Faults, names: Sequence[str]) -> list[tuple[float, str]]:
    """The faults that are switched on, each with the upper end of its share of [0, 1)."""
    shares: list[tuple[float, str]] = []
    top = 0.0
    for name in names:
        rate: float = getattr(faults, name)
        if rate:
            top += rate
            shares.append((top, name))
    return shares


def _pick(shares: Sequence[tuple[float, str]], chance: float) -> str | None:
    return next((name for top, name in shares if chance < top), None)
