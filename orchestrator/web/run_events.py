"""What happened in a run lately, as its samples show: rows that failed, rate limits, silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.pulses import Pulse

__all__ = ["RunHappening", "latest_happenings"]

_MOST = 8
# Longer than between two samples of a run that works.
_SILENT_S = 60.0
# What happens again so soon is shown once.
_TOGETHER_S = 30.0


@fast_dataclass
class RunHappening:
    """One line: when it was last so, what, and how often since it began."""

    at: float
    what: str
    number: int


def latest_happenings(pulses: Sequence[Pulse]) -> list[RunHappening]:
    """The latest happenings of a run, the newest first."""
    found: list[RunHappening] = []
    for each in _all(pulses):
        last = next((other for other in reversed(found) if other.what == each.what), None)
        if last is not None and each.at - last.at <= _TOGETHER_S and each.what != "no sample":
            found.remove(last)
            found.append(replace(each, number=last.number + each.number))
        else:
            found.append(each)
    return found[: -_MOST - 1 : -1]


def _all(pulses: Sequence[Pulse]) -> Iterator[RunHappening]:
    for one, other in pairwise(pulses):
        if other.at - one.at > _SILENT_S:
            yield RunHappening(at=other.at, what="no sample", number=round(other.at - one.at))
        for what, number in (
            ("rows failed", other.failed - one.failed),
            ("calls were rate-limited", other.rate_limited - one.rate_limited),
        ):
            if number > 0:
                yield RunHappening(at=other.at, what=what, number=number)
