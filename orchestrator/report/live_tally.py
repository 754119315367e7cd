"""What a display shows beside the counts: failures by code, the latest one, how long answers take."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from orchestrator.core.events import RunEvent, Settled
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import State

__all__ = ["LiveTally", "Tallied"]

# The latest answers that the times are of.
_ANSWERS = 400
_CODES = 4


@fast_dataclass
class Tallied:
    """Failures of this process by code, the most frequent first; the key and the code of the latest one; times."""

    failures: tuple[tuple[str, int], ...] = ()
    other_failures: int = 0
    latest_failure: tuple[str, str] | None = None
    median_s: float | None = None
    p95_s: float | None = None


@dataclass(slots=True)
class LiveTally:
    """Counts while a run is worked on; give ``observe`` to the orchestrator that runs it."""

    _failures: Counter[str] = field(default_factory=Counter)
    _latest: tuple[str, str] | None = None
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=_ANSWERS))

    def observe(self, event: RunEvent) -> None:
        """Count a settled row."""
        if not isinstance(event, Settled):
            return
        if event.state is State.SUCCEEDED:
            # An answer that is shared with another row took no time.
            if event.elapsed_s > 0:
                self._times.append(event.elapsed_s)
        elif event.state is State.FAILED:
            code = event.code or "unknown"
            self._failures[code] += 1
            self._latest = event.key, code

    def tallied(self) -> Tallied:
        """The figures now."""
        first = self._failures.most_common(_CODES)
        times = sorted(self._times)
        return Tallied(
            failures=tuple(first),
            other_failures=self._failures.total() - sum(number for _, number in first),
            latest_failure=self._latest,
            median_s=times[(len(times) - 1) // 2] if times else None,
            p95_s=times[(95 * len(times) - 1) // 100] if times else None,
        )
