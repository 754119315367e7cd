"""Learns how long responses take while they run, with an estimate that also counts those still running.

This is a Kaplan-Meier estimate. Ages fall into bins of equal *ratio* (each about 9 % wider than the one before), from
20 ms to two days. Each bin counts how many responses ended at that age, and how many were last seen running at it:
still watched, or given up. A response was *at risk* in every bin before the one in which it ended or was last seen.
The chance of ending in a bin, given that it was reached, is ended / at risk, and the product of the complements is
the chance of still running at any age. Counting only ended responses would be wrong at the start, when only the
quickest have ended.

Old observations fade (half of their weight is gone after a few hundred new ones), so the estimate follows a provider
that gets slower in the evening. Before anything is known, an imaginary response of little weight per bin stands in:
it is as likely to end between 2 s and 4 s, once it gets there, as between 2 and 4 minutes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["LatencyTable", "Trace"]

_FIRST_EDGE_S = 0.02
_LAST_EDGE_S = 48 * 3600.0
_BINS_PER_DOUBLING = 8
_BINS_PER_E = _BINS_PER_DOUBLING / math.log(2.0)
_BINS = 1 + math.ceil(math.log(_LAST_EDGE_S / _FIRST_EDGE_S) * _BINS_PER_E)
# Bin b holds the ages from edge b to edge b + 1; the first one starts at 0, the last one never ends.
_EDGES = (0.0, *(_FIRST_EDGE_S * 2.0 ** (b / _BINS_PER_DOUBLING) for b in range(_BINS)))
_WIDTHS = (*(_EDGES[b + 1] - _EDGES[b] for b in range(_BINS)), math.inf)
_MIDDLE_LOGS = (math.log(_FIRST_EDGE_S), *(math.log(_FIRST_EDGE_S) + (b + 0.5) / _BINS_PER_E for b in range(_BINS)))

# One fifth of an imaginary response per bin: nothing ends before 0.1 s, then 1.2 endings per e-fold of age.
_GUESS_WEIGHT = 0.2
_GUESS_FROM_S = 0.1
_GUESS = tuple(1.2 * _GUESS_WEIGHT / _BINS_PER_E if edge >= _GUESS_FROM_S else 0.0 for edge in _EDGES)

_HALF_LIFE = 500
# Endings of earlier runs weigh at most as much as this many new ones: today may differ from yesterday.
_REMEMBERED = 50.0
_REFRESH_SHARE = 12
_VERSION = 1


@dataclass(slots=True)
class Trace:
    """The entry of one watched response: its number in order of start, and the bin in which it was last seen."""

    born: int
    place: int


class LatencyTable:
    """Endings and survivals by age; ``refresh`` turns the counts into curves that ``wait_worth`` reads.

    Ages are seconds since the response was accepted. Adding an observation takes constant time; the curves are
    recomputed (about 0.1 ms) only when enough has changed.
    """

    __slots__ = (
        "_area",
        "_born",
        "_changes",
        "_ended",
        "_first_poll",
        "_left",
        "_survival",
        "_watched",
        "endings",
        "geometric_mean_s",
    )

    def __init__(self) -> None:
        self._ended = [0.0] * (_BINS + 1)
        self._left = [0.0] * (_BINS + 1)
        self._watched = [0.0] * (_BINS + 1)
        self._born = 0
        self._changes = 0
        # At each edge: the chance of still running, and the area under that curve so far (seconds).
        self._survival = [1.0] * (_BINS + 1)
        self._area = list(_EDGES)
        # The number of endings behind the estimate, weighted by how much they have faded.
        self.endings = 0.0
        self.geometric_mean_s = 1.0
        self.refresh()

    def enter(self) -> Trace:
        """Start to watch a response, at age 0."""
        self._born += 1
        if self._born % _HALF_LIFE == 0:
            self._fade(0.5)
        trace = Trace(self._born, 0)
        self._watched[0] += self._weight(trace)
        return trace

    def advance(self, trace: Trace, age_s: float) -> None:
        """Record that a watched response was seen running at this age."""
        weight = self._weight(trace)
        self._watched[trace.place] -= weight
        trace.place = _bin(age_s)
        self._watched[trace.place] += weight
        self._changes += 1

    def leave(self, trace: Trace) -> None:
        """Stop watching a response; that it ran until it was last seen still counts."""
        weight = self._weight(trace)
        self._watched[trace.place] -= weight
        self._left[trace.place] += weight
        self._changes += 1

    def end(self, trace: Trace, lower_s: float, upper_s: float) -> None:
        """Record that a response ended at an age between the two; its weight is spread evenly over them."""
        weight = self._weight(trace)
        self._watched[trace.place] -= weight
        ended, first, last = self._ended, _bin(lower_s), _bin(upper_s)
        if first == last:
            ended[first] += weight
        else:
            per_second = weight / (upper_s - lower_s)
            ended[first] += (_EDGES[first + 1] - lower_s) * per_second
            for place in range(first + 1, last):
                ended[place] += _WIDTHS[place] * per_second
            ended[last] += (upper_s - _EDGES[last]) * per_second
        self.endings += weight
        self._changes += 1

    def refresh_if_due(self) -> None:
        """Recompute the curves if enough of the observations are new."""
        if self._changes > 3 and self._changes * _REFRESH_SHARE > self.endings:
            self.refresh()

    def refresh(self) -> None:
        """Recompute the curves from the counts."""
        self._changes = 0
        self._first_poll: tuple[tuple[float, float], float] | None = None
        ended, left, watched = self._ended, self._left, self._watched
        totals = [e + c + w for e, c, w in zip(ended, left, watched, strict=True)]
        # later[k]: how many ended or were last seen in the last k bins.
        later = list(accumulate(reversed(totals), initial=0.0))
        alive, log_mean, area = 1.0, 0.0, 0.0
        survival, areas = self._survival, self._area
        for place in range(_BINS):
            # Those last seen running in this bin were at risk for half of it.
            at_risk = later[_BINS - place] + ended[place] + 0.5 * (left[place] + watched[place])
            end_here = (ended[place] + _GUESS[place]) / (at_risk + _GUESS_WEIGHT)
            still = alive * (1.0 - end_here)
            log_mean += (alive - still) * _MIDDLE_LOGS[place]
            area += 0.5 * (alive + still) * (_EDGES[place + 1] - _EDGES[place])
            alive = still
            survival[place + 1], areas[place + 1] = alive, area
        self.geometric_mean_s = math.exp(log_mean + alive * _MIDDLE_LOGS[_BINS])

    def survival(self, age_s: float) -> float:
        """Returns the chance of still running at this age."""
        return self._within(_bin(age_s), age_s)[0]

    def wait_worth(self, seen_s: float, price_s: float, latest_s: float) -> float:
        """Returns the age at which the expected lag since ``seen_s`` reaches ``price_s``, at most ``latest_s``.

        The expected lag at age t, for a response seen running at age a, is the mean time since it finished unseen:
        (t − a) − ∫ S / S(a) over a … t, where S is the chance of still running.
        """
        if seen_s == 0.0:
            # Each accepted response asks this twice, and the answer holds until the curves change.
            asked = (price_s, latest_s)
            if self._first_poll is None or self._first_poll[0] != asked:
                self._first_poll = asked, self._wait_worth(0.0, price_s, latest_s)
            return self._first_poll[1]
        return self._wait_worth(seen_s, price_s, latest_s)

    def _wait_worth(self, seen_s: float, price_s: float, latest_s: float) -> float:
        low, high = _bin(seen_s), _bin(latest_s)
        alive, area = self._within(low, seen_s)
        # alive · t − area(t) rises with t; find where it has risen by price · alive.
        goal = alive * (seen_s + price_s) - area
        areas = self._area
        while low < high:
            middle = (low + high) // 2
            if alive * _EDGES[middle + 1] - areas[middle + 1] < goal:
                low = middle + 1
            else:
                high = middle
        if low >= _BINS:
            return latest_s
        # Within a bin the chance falls linearly, so the lag grows as a parabola from the start of the bin (or from
        # the age seen, if that is in it): lag = slope · x + ½ bend · x², both in units of ``alive``.
        start = max(seen_s, _EDGES[low])
        still, area_there = self._within(low, start)
        missing = goal - (alive * start - area_there)
        slope = alive - still
        bend = (still - self._survival[low + 1]) / (_EDGES[low + 1] - start)
        # The numerically stable form of the root; it also holds for a bend of 0.
        root = slope + math.sqrt(slope * slope + 2.0 * bend * missing)
        return min(start + 2.0 * missing / root, latest_s) if root > 0.0 else latest_s

    def dump(self) -> bytes:
        """Returns the endings as a small JSON text; responses that were only watched are left out."""
        bins = {str(b): round(weight, 2) for b, weight in enumerate(self._ended) if weight >= 0.01}
        return json.dumps({"v": _VERSION, "ended": bins}, separators=(",", ":")).encode()

    def load(self, learned: bytes) -> None:
        """Add what an earlier run learned; an unreadable text is ignored, and the table then starts empty."""
        try:
            value = json.loads(learned)
            counts = {int(b): float(weight) for b, weight in value["ended"].items()} if value["v"] == _VERSION else {}
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        if not all(0 <= b <= _BINS and 0.0 <= weight < math.inf for b, weight in counts.items()):
            return
        total = sum(counts.values())
        scale = min(1.0, _REMEMBERED / total) if total else 0.0
        for b, weight in counts.items():
            self._ended[b] += weight * scale
        self.endings += total * scale
        self.refresh()

    def _within(self, place: int, age_s: float) -> tuple[float, float]:
        """Returns the chance of still running at an age within this bin, and the area under the curve up to it."""
        if place >= _BINS:
            return self._survival[_BINS], self._area[_BINS]
        low, alive = _EDGES[place], self._survival[place]
        still = alive + (age_s - low) / (_EDGES[place + 1] - low) * (self._survival[place + 1] - alive)
        return still, self._area[place] + 0.5 * (alive + still) * (age_s - low)

    def _weight(self, trace: Trace) -> float:
        """Returns the weight of a response by its place in the order of *starts*.

        So responses that started together fade together, whether they have ended or not; fading in the order of
        endings would favor slow ones at the end of every run.
        """
        return math.exp2(trace.born / _HALF_LIFE - self._born // _HALF_LIFE)

    def _fade(self, factor: float) -> None:
        for counts in (self._ended, self._left, self._watched):
            counts[:] = [weight * factor for weight in counts]
        self.endings *= factor


def _bin(age_s: float) -> int:
    if age_s < _FIRST_EDGE_S:
        return 0
    return min(1 + int(math.log(age_s / _FIRST_EDGE_S) * _BINS_PER_E), _BINS)
