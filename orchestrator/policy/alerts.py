"""What receivers are notified of during a run: a budget that is nearly used, and a run that stands still."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["Alert", "AlertName", "Alerts"]

AlertName: TypeAlias = Literal["budget_80", "budget_100", "stalled"]

_PERCENTS: dict[int, AlertName] = {80: "budget_80", 100: "budget_100"}
# A run stands still if nothing ends for so many times as long as 99 of 100 requests take, and for no less than this.
_TIMES_P99 = 4
_LEAST_S = 900.0
_REMEMBERED = 1000


@fast_dataclass(kw_only=False)
class Alert:
    """An event, its ``cause`` (the scope of a budget), and what to say of it."""

    event: AlertName
    cause: str
    says: str


@dataclass(slots=True)
class Alerts:
    """Notices each alert once. ``unknown_s`` is how long nothing may end while nothing has ended yet."""

    unknown_s: float
    _took: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _settled: int = -1
    _since: float = 0.0
    _said: set[tuple[AlertName, str]] = field(default_factory=set)

    def ended(self, took_s: float) -> None:
        """Learn how long a request took."""
        self._took.append(took_s)

    def budget(self, scope: str, percent: int) -> list[Alert]:
        """The thresholds that the use of a budget has reached."""
        found = [
            Alert(event, scope, f"{percent} % of the {scope}'s budget is used")
            for least, event in _PERCENTS.items()
            if percent >= least
        ]
        return self._new(found)

    def progress(self, now: float, *, settled: int, is_working: bool) -> list[Alert]:
        """Whether the run stands still. ``is_working`` says that something is open or could be sent."""
        if settled != self._settled or not is_working:
            self._settled, self._since = settled, now
            self._said.discard(("stalled", ""))
            return []
        idle_s = now - self._since
        if idle_s < self.stalls_after_s:
            return []
        return self._new([Alert("stalled", "", f"nothing has ended for {round(idle_s / 60)} minutes")])

    @property
    def stalls_after_s(self) -> float:
        """How long nothing may end."""
        if not self._took:
            return self.unknown_s
        p99 = sorted(self._took)[len(self._took) * 99 // 100]
        return max(_LEAST_S, _TIMES_P99 * p99)

    def _new(self, found: list[Alert]) -> list[Alert]:
        fresh = [each for each in found if (each.event, each.cause) not in self._said]
        self._said.update((each.event, each.cause) for each in fresh)
        return fresh
