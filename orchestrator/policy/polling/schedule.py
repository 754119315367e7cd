"""When to look at a response again: when waiting any longer would cost more than the look.

A look too early is wasted; a look too late lets a finished result lie. Both are paid for: a look has a *price*, in
seconds of lag, and a finished response that nobody has seen costs the time it lies. While a response waits for its
next look, the lag to be expected grows: slowly while it hardly can have ended, fast once it should have. The next
look is due when that expected lag has grown to the price of one look. This is the rule by which a shop restocks
(order when the goods missed would cost as much as the order), and two things follow from it:

* the mean lag is the price times the looks a response takes, so that one number trades one for the other;
* it needs only the chance of still running by age, which ``latency.LatencyTable`` learns from the responses
  themselves. Latencies with two humps, with long tails or as sharp as a clock need no other rule.

With latencies lognormal (median 8 s, sigma 0.7) and a price of 5.65 % of the median it takes 3.3 looks and 1.5 s of
lag, within one per cent of what dynamic programming finds. The price then moves with what the account allows:

* *The scale* is the geometric mean of the latencies, so that sub-second and hour-long responses cost as many looks.
* *Spare allowance*: where few are open for long, looks are cheap, and the price falls, down to two seconds.
* *Short allowance*: where more looks would be due than may be made, the price rises until they fit.
* *The tail*: when nothing is left to send and few are open, the whole run waits for the last one: the price falls.
* *Scouts*: of a first cohort, before anything is known, a few are looked at often, and the others wait for what
  these tell: an entry that comes due is asked about again before a look is spent on it.

Everything is a decision over numbers handed in; nothing here waits, sends or reads a clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.policy.polling.latency import LatencyTable, Trace

__all__ = ["PollSchedule", "Watch"]

# The price of a look, as a share of the geometric mean latency; and in seconds: where allowance is spare down to the
# second, and never less than the first, for a look is work, too. (Of responses that take 50 ms, 0.01 looks at every
# third one twice, and 0.05 lets each lie for 100 ms.)
_PRICE_SHARE = 0.0565
_CHEAPEST_S = 0.02
_CHEAP_ENOUGH_S = 2.0
# What a response takes at the fair price, and its mean latency over the geometric mean: typical values, from which
# the looks that will be due are reckoned.
_LOOKS_AT_PRICE = 3.3
_MEAN_OVER_SCALE = 1.25
# Spare looks are spent up to the first share of the allowance; beyond the second there are too few.
_SPARE_SHARE = 0.25
_SHORT_SHARE = 0.85
# However unlikely an ending seems: the provider may have become faster, and results do not wait for ever.
_LONGEST_GAP_S = 60.0

# Until so many endings are known, a few scouts look often, and the others not before this age.
_KNOWN_FROM = 8
_SCOUTS = 12
_SCOUT_PRICE = 0.1
_UNKNOWN_FIRST_LOOK_S = 1.0
# With fewer than this many open and nothing left to send, gaps shrink in proportion to how many are open.
_TAIL = 12

# A longer wait is cut into halves down to this, so that news (a lower price, a quicker table) reaches the entry.
_ASK_AGAIN_S = 2.0
_ASK_AGAIN_UNKNOWN_S = 0.25
# Gaps vary by this share, so that what was accepted together is not looked at together.
_JITTER = 0.05
# An entry that has this share of its gap left is looked at rather than asked about once more.
_NEARLY = 0.03
# The difference of two times that were cut to the second is off by this much either way: as far, on average, as the
# triangle of possible errors from -1 s to 1 s.
_WHOLE_SECONDS_S = 0.7
# The provider counts from when it created the response, we from when we heard of it.
_CLOCKS_DIFFER_S = 1.0


@dataclass(slots=True, eq=False)
class Watch:
    """One open response as the schedule sees it; the caller keeps it in a heap ordered by ``due_at``.

    ``seen_s`` is the age at which it was last seen running. ``not_before`` is what the provider asked for.
    """

    accepted_at: float
    due_at: float
    seen_s: float
    not_before: float
    trace: Trace
    spread: float
    scout: bool


class PollSchedule:
    """The learnt poll times of the responses of one model and job.

    Call ``watch`` when a response was accepted; when its ``due_at`` comes, ask ``due``: True means look now, False
    means that ``due_at`` has moved. After a look call ``still_running`` or ``ended``; ``drop`` if it is given up.
    ``polls_per_minute`` is the allowance, and ``nothing_to_send`` starts the tail; the caller may change both at any
    time. ``sharers`` are all schedules that use the same allowance, this one among them, as they come and go; None
    where it has the whole of it. ``learnt`` is an earlier ``dump`` (anything unreadable in it is ignored).
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        polls_per_minute: float = 6000.0,
        sharers: Collection[PollSchedule] | None = None,
        learned: bytes | None = None,
    ) -> None:
        self.polls_per_minute = polls_per_minute
        self.nothing_to_send = False
        # How many responses are followed now.
        self.followed = 0
        self._sharers = (self,) if sharers is None else sharers
        self._rng = rng
        self._table = LatencyTable()
        self._scouts = 0
        if learned is not None:
            self._table.load(learned)

    @property
    def endings_per_s(self) -> float:
        """About how many of those that are followed end each second."""
        return self.followed / self._table.geometric_mean_s

    def watch(self, accepted_at: float, *, not_before: float = 0.0) -> Watch:
        """Follow a response from its acceptance on; one accepted long ago comes due at once, the oldest first."""
        self.followed += 1
        scout = self._scouts < _SCOUTS and not self._knows
        self._scouts += scout
        watch = Watch(accepted_at, accepted_at, 0.0, not_before, self._table.enter(), self._jitter(), scout)
        self._set_due(watch, accepted_at)
        return watch

    def due(self, watch: Watch, now: float) -> bool:
        """True: look now. False: not yet after all, ask again at the new ``due_at``."""
        return not self._set_due(watch, now)

    def still_running(self, watch: Watch, looked_at: float, *, not_before: float = 0.0) -> None:
        """A look that was sent at ``looked_at`` found the response unfinished; sets the next ``due_at``."""
        table = self._table
        # A reply that came out of order, or a clock that stood still, must not make it younger.
        watch.seen_s = max(watch.seen_s, looked_at - watch.accepted_at)
        table.advance(watch.trace, watch.seen_s)
        table.refresh_if_due()
        watch.not_before = not_before
        watch.spread = self._jitter()
        self._set_due(watch, looked_at)

    def ended(self, watch: Watch, now: float, *, took_s: float | None = None) -> None:
        """A look found the response ended. ``took_s`` is the provider's ``completed_at − created_at``, if it said so.

        It is cut to the interval between the two looks around the ending, and not believed where it lies far outside.
        Whole numbers are times cut to the second.
        """
        lower, upper = watch.seen_s, max(now - watch.accepted_at, watch.seen_s)
        if took_s is not None and lower - _CLOCKS_DIFFER_S <= took_s <= upper + _CLOCKS_DIFFER_S:
            slack = _WHOLE_SECONDS_S if took_s == int(took_s) else 0.0
            lower, upper = (min(max(bound, lower), upper) for bound in (took_s - slack, took_s + slack))
        if upper - lower <= max(2.0 * _LONGEST_GAP_S, lower):
            self._table.end(watch.trace, lower, upper)
        else:
            # Nobody looked for long (the process was down): all that is known is that it ran until then.
            self._table.leave(watch.trace)
        self._table.refresh_if_due()
        self._forget(watch)

    def drop(self, watch: Watch) -> None:
        """The response is no longer followed, and its end stays unknown."""
        self._table.leave(watch.trace)
        self._forget(watch)

    def dump(self) -> bytes:
        """What was learnt, to be given to the next run of the same model and job: at most a few kB of JSON."""
        return self._table.dump()

    def _set_due(self, watch: Watch, now: float) -> bool:
        """Set when the watch is to be asked about again, and say whether its look is still in the future."""
        seen = watch.seen_s
        known = self._knows
        price, longest = self._price_and_longest_gap(known=known, scout=watch.scout)
        gap = self._table.wait_worth(seen, price, seen + longest) - seen
        if not known and not watch.scout:
            gap = max(gap, _UNKNOWN_FIRST_LOOK_S - seen)
        target = max(watch.accepted_at + seen + gap * watch.spread, watch.not_before)
        # News (a lower price, a quicker table) must reach those who wait long: half of a long wait, then ask again.
        rest = target - now
        soon = _ASK_AGAIN_S if known else _ASK_AGAIN_UNKNOWN_S
        watch.due_at = target if rest <= soon else now + max(soon, 0.5 * rest)
        return rest > _NEARLY * gap or now < watch.not_before

    def _price_and_longest_gap(self, *, known: bool, scout: bool) -> tuple[float, float]:
        fair = _PRICE_SHARE * self._table.geometric_mean_s
        in_all, endings_per_s = 0, 0.0
        for each in self._sharers:
            in_all += each.followed
            endings_per_s += each.endings_per_s
        round_s = in_all / (_SHORT_SHARE * self.polls_per_minute / 60.0)
        short = self._strain(endings_per_s, _SHORT_SHARE)
        if short > 1.0:
            # To look at everything open takes that long; to wait for much longer would leave the allowance unused.
            fair, longest = fair * short, max(1.5 * round_s, 2.0 * self._table.geometric_mean_s)
        else:
            longest = max(_LONGEST_GAP_S, round_s)
            if fair > _CHEAP_ENOUGH_S:
                fair = max(_CHEAP_ENOUGH_S, fair * min(1.0, self._strain(endings_per_s, _SPARE_SHARE)))
        if scout and not known:
            fair *= _SCOUT_PRICE
        elif self.nothing_to_send and in_all < _TAIL:
            fair *= (in_all / _TAIL) ** 2
        return max(fair, _CHEAPEST_S), longest

    def _strain(self, endings_per_s: float, share: float) -> float:
        """What the fair price must be multiplied by for all looks together to use this share of the allowance.

        At x² times the fair price a response takes 3.3 / x looks and lies for 3.3 · price · x, which lengthens the
        round in which it is looked at; the x at which looks and allowance meet solves a quadratic equation. All that
        share the allowance solve the same one, so that all are held back, or let go, alike.
        """
        lag = _LOOKS_AT_PRICE * _PRICE_SHARE
        demand = _LOOKS_AT_PRICE * endings_per_s / (share * self.polls_per_minute / 60.0)
        root = (math.sqrt(_MEAN_OVER_SCALE**2 + 4.0 * lag * demand) - _MEAN_OVER_SCALE) / (2.0 * lag)
        return root * root

    @property
    def _knows(self) -> bool:
        return self._table.endings >= _KNOWN_FROM

    def _jitter(self) -> float:
        return self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)

    def _forget(self, watch: Watch) -> None:
        self.followed -= 1
        self._scouts -= watch.scout
