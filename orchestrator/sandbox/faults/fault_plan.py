"""What will happen to a create or a look, decided by the seed and the call's ordinal alone.

A call's luck does not depend on the time or on other calls, so the same seed plays the same faults and
latencies again, and switching one fault on leaves the luck of the other groups as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import NormalDist

from orchestrator.sandbox.server.sandbox_settings import (
    DELIVERY_FAULTS,
    ENDING_FAULTS,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFaults:
    """The luck of one create: at most one fault of each group (``None``: all goes well), and its two durations."""

    refusal: str | None
    delivery: str | None
    ending: str | None
    quirk: str | None
    queue_s: float
    run_s: float


class FaultPlan:
    """Draws the luck of each call from the settings' seed."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._seed = settings.seed
        self._latency = settings.latency
        self._refusals = _ladder(settings.faults, REFUSAL_FAULTS)
        self._deliveries = _ladder(settings.faults, DELIVERY_FAULTS)
        self._endings = _ladder(settings.faults, ENDING_FAULTS)
        self._quirks = _ladder(settings.faults, QUIRKS)
        self._streams = _ladder(settings.faults, STREAM_FAULTS)
        self._polls = _ladder(settings.faults, POLL_FAULTS)
        self._calm_after = settings.faults.calm_after

    def of_create(self, ordinal: int) -> DrawnFaults:
        """The luck of the create number ``ordinal``."""
        return self._fate(Random(f"{self._seed}:create:{ordinal}"), ordinal)

    def of_line(self, ordinal: int) -> DrawnFaults:
        """The luck of the batch line number ``ordinal``: only how it ends, and when."""
        fate = self._fate(Random(f"{self._seed}:line:{ordinal}"), ordinal)
        return replace(fate, refusal=None, delivery=None, quirk=None)

    def of_batch(self, ordinal: int) -> float:
        """How long the batch number ``ordinal`` is validated, in seconds."""
        return draw_duration(self._latency.queue, Random(f"{self._seed}:batch:{ordinal}"))

    def _fate(self, rng: Random, ordinal: int) -> DrawnFaults:
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
        """The fault that strikes the look number ``ordinal``, if any."""
        return _pick(self._polls, Random(f"{self._seed}:look:{ordinal}").random()) if self._polls else None

    def of_stream(self, ordinal: int) -> tuple[str | None, int]:
        """The fault that ends the stream number ``ordinal``, if any, and after how many events."""
        rng = Random(f"{self._seed}:stream:{ordinal}")
        after = rng.randint(1, _LONGEST_BROKEN_STREAM)
        return _pick(self._streams, rng.random()), after

    def reply_s(self, call: str, ordinal: int) -> float:
        """How long the reply to the call number ``ordinal`` of a kind takes, in seconds."""
        if not self._latency.reply:
            return 0.0
        return draw_duration(self._latency.reply, Random(f"{self._seed}:reply:{call}:{ordinal}"))


def draw_duration(spread: Spread, rng: Random) -> float:
    """Seconds, drawn from the distribution; takes one number from ``rng`` whichever it is."""
    chance = rng.random()
    match spread:
        case Uniform(from_s=low, to_s=high):
            return low + (high - low) * chance
        case Lognormal(median_s=median, sigma=sigma):
            return median * math.exp(sigma * _normal_quantile(chance))
        case fixed:
            return fixed


def _normal_quantile(chance: float) -> float:
    """The standard normal value below which ``chance`` of all lie, kept within six sigmas."""
    return _STANDARD_NORMAL.inv_cdf(min(max(chance, 1e-9), 1 - 1e-9))


def _ladder(faults: Faults, names: Sequence[str]) -> list[tuple[float, str]]:
    """The faults that are switched on, each with the upper end of its share of [0, 1)."""
    ladder: list[tuple[float, str]] = []
    top = 0.0
    for name in names:
        rate: float = getattr(faults, name)
        if rate:
            top += rate
            ladder.append((top, name))
    return ladder


def _pick(ladder: Sequence[tuple[float, str]], chance: float) -> str | None:
    return next((name for top, name in ladder if chance < top), None)
