"""How long responses take, learnt while they run: an estimate that counts those still running, too.

Ages are cut into bins of equal *ratio* (each about 9 % wider than the one before), from 20 ms to two days. Each bin
keeps how many responses ended at that age, and how many were last seen running at it: still watched, or given up.
Whoever ended or was seen later was *at risk* in every bin before. The chance of ending in a bin, given that it was
reached, is then ended / at risk, and the product of what remains is the chance of still running at any age. To count
the ended ones alone would be wrong at every start, when only the quickest have ended.

Old observations fade (half of the weight is gone after a few hundred new ones), so that the estimate follows a
provider that gets slower towards the evening. Where nothing is known yet, an imaginary response per bin, of little
weight, stands in: as likely to end between 2 s and 4 s, if it gets there, as between 2 minutes and 4.
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

# What a fifth of an imaginary response per bin says: nothing ends before 0.1 s; then 1.2 endings per e-fold of age.
_GUESS_WEIGHT = 0.2
_GUESS_FROM_S = 0.1
_GUESS = tuple(1.2 * _GUESS_WEIGHT / _BINS_PER_E if edge >= _GUESS_FROM_S else 0.0 for edge in _EDGES)

_HALF_LIFE = 500
# Endings of an earlier run weigh at most as much as this many fresh ones: today may be unlike yesterday.
_REMEMBERED = 50.0
_REFRESH_SHARE = 12
_VERSION = 1


@dataclass(slots=True)
class Trace:
    """Where one followed response stands in the table: the how-many-eth it was, and the bin it was last seen in."""

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
        "_first_look",
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
        # How many endings the estimate rests on, faded ones counted for what they still weigh.
        self.endings = 0.0
        self.geometric_mean_s = 1.0
        self.refresh()

    def enter(self) -> Trace:
        """A response is followed from age 0 on."""
        self._born += 1
        if self._born % _HALF_LIFE == 0:
            self._fade(0.5)
        trace = Trace(self._born, 0)
        self._watched[0] += self._weight(trace)
        return trace

    def advance(self, trace: Trace, age_s: float) -> None:
        """A followed response was seen running at this age."""
        weight = self._weight(trace)
        self._watched[trace.place] -= weight
        trace.place = _bin(age_s)
        self._watched[trace.place] += weight
        self._changes += 1

    def leave(self, trace: Trace) -> None:
        """A response is followed no longer; that it ran until it was last seen is still remembered."""
        weight = self._weight(trace)
        self._watched[trace.place] -= weight
        self._left[trace.place] += weight
        self._changes += 1

    def end(self, trace: Trace, lower_s: float, upper_s: float) -> None:
        """A response ended at some age between the two: the ending is spread evenly over them."""
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
        """Recompute the curves when about a thirtieth of what they rest on is new."""
        if self._changes > 3 and self._changes * _REFRESH_SHARE > self.endings:
            self.refresh()

    def refresh(self) -> None:
        """Recompute the curves from the counts."""
        self._changes = 0
        self._first_look: tuple[tuple[float, float], float] | None = None
        ended, left, watched = self._ended, self._left, self._watched
        totals = [e + c + w for e, c, w in zip(ended, left, watched, strict=True)]
        # later[k]: how many were seen at, or ended at, an age of the last k bins.
        later = list(accumulate(reversed(totals), initial=0.0))
        alive, log_mean, area = 1.0, 0.0, 0.0
        survival, areas = self._survival, self._area
        for place in range(_BINS):
            # Those last seen running in this very bin were at risk for half of it.
            at_risk = later[_BINS - place] + ended[place] + 0.5 * (left[place] + watched[place])
            end_here = (ended[place] + _GUESS[place]) / (at_risk + _GUESS_WEIGHT)
            still = alive * (1.0 - end_here)
            log_mean += (alive - still) * _MIDDLE_LOGS[place]
            area += 0.5 * (alive + still) * (_EDGES[place + 1] - _EDGES[place])
            alive = still
            survival[place + 1], areas[place + 1] = alive, area
        self.geometric_mean_s = math.exp(log_mean + alive * _MIDDLE_LOGS[_BINS])

    def survival(self, age_s: float) -> float:
        """The chance of still running at this age."""
        return self._within(_bin(age_s), age_s)[0]

    def wait_worth(self, seen_s: float, price_s: float, latest_s: float) -> float:
        """The age at which the lag expected since ``seen_s`` reaches ``price_s``, at most ``latest_s``.

        The lag expected at age t, for a response seen running at age a, is the mean time it will have been finished
        unseen: (t − a) − ∫ S / S(a) over a … t, with S the chance of still running.
        """
        if seen_s == 0.0:
            # All that were just accepted ask this, twice each, and the answer holds until the curves change.
            asked = (price_s, latest_s)
            if self._first_look is None or self._first_look[0] != asked:
                self._first_look = asked, self._wait_worth(0.0, price_s, latest_s)
            return self._first_look[1]
        return self._wait_worth(seen_s, price_s, latest_s)

    def _wait_worth(self, seen_s: float, price_s: float, latest_s: float) -> float:
        low, high = _bin(seen_s), _bin(latest_s)
        alive, area = self._within(low, seen_s)
        # alive · t − area(t) rises with t; look for where it has risen by price · alive.
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
        # Within a bin the chance falls in a straight line, so the lag grows as a parabola from its start (or from the
        # age seen, where that lies in it): lag = slope · x + ½ bend · x², both in units of ``alive``.
        start = max(seen_s, _EDGES[low])
        still, area_there = self._within(low, start)
        missing = goal - (alive * start - area_there)
        slope = alive - still
        bend = (still - self._survival[low + 1]) / (_EDGES[low + 1] - start)
        # The stable form of the root: it holds for a bend of 0, too.
        root = slope + math.sqrt(slope * slope + 2.0 * bend * missing)
        return min(start + 2.0 * missing / root, latest_s) if root > 0.0 else latest_s

    def dump(self) -> bytes:
        """The endings as a small JSON text; who was merely watched is not kept."""
        bins = {str(b): round(weight, 2) for b, weight in enumerate(self._ended) if weight >= 0.01}
        return json.dumps({"v": _VERSION, "ended": bins}, separators=(",", ":")).encode()

    def load(self, learned: bytes) -> None:
        """Add what an earlier run learnt. Whatever cannot be read is ignored: the table then starts empty."""
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
        """The chance of still running at an age that lies in this bin, and the area under the curve up to it."""
        if place >= _BINS:
            return self._survival[_BINS], self._area[_BINS]
        low, alive = _EDGES[place], self._survival[place]
        still = alive + (age_s - low) / (_EDGES[place + 1] - low) * (self._survival[place + 1] - alive)
        return still, self._area[place] + 0.5 * (alive + still) * (age_s - low)

    def _weight(self, trace: Trace) -> float:
        """What a response counts for by its place in the order of *starts*, so that those that started together,
        ended or not, fade together; to fade by the order of endings would favour the slow ones at every end."""
        return math.exp2(trace.born / _HALF_LIFE - self._born // _HALF_LIFE)

    def _fade(self, factor: float) -> None:
        for counts in (self._ended, self._left, self._watched):
            counts[:] = [weight * factor for weight in counts]
        self.endings *= factor


def _bin(age_s: float) -> int:
    if age_s < _FIRST_EDGE_S:
        return 0
    return min(1 + int(math.log(age_s / _FIRST_EDGE_S) * _BINS_PER_E), _BINS)
