"""Decides when to poll a response again: when waiting any longer would cost more than the poll.

A poll too early is wasted; a poll too late delays a finished result. Both have a cost in seconds of lag: a poll has a
*price*, and a finished response costs the time until it is seen. While a response waits for its next poll, the
expected lag grows: slowly while it can hardly have ended, fast once it should have. The next poll is due when the
expected lag has grown to the price of one poll. Two properties follow:

* The mean lag is the price times the polls per response, so one number trades one for the other.
* The rule needs only the chance of still running by age, which ``latency.LatencyTable`` learns from the responses
  themselves. Latencies with two peaks, with long tails or nearly constant ones need no other rule.

With lognormal latencies (median 8 s, sigma 0.7) and a price of 5.65 % of the median, a response takes 3.3 polls and
1.5 s of lag, within one percent of the optimum found by dynamic programming. The price follows the allowance:

* *Scale*: the geometric mean of the latencies, so that sub-second and hour-long responses take as many polls.
* *Spare allowance*: if few responses are open for long, polls are cheap, and the price falls, down to two seconds.
* *Short allowance*: if more polls would be due than are allowed, the price rises until they fit.
* *Tail*: when nothing is left to send and few responses are open, the run waits for the last one: the price falls.
* *Scouts*: in the first cohort, before anything is known, a few responses are polled often, and the others wait for
  what these show: when an entry comes due, the schedule is asked again before a poll is spent on it.

All functions decide from their arguments; nothing here waits, sends or reads a clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.policy.polling.announcements import Announced
from orchestrator.policy.polling.latency import LatencyTable, Trace

__all__ = ["PollSchedule", "Watch"]

# The price of a poll, as a share of the geometric mean latency; its minimum in seconds, because a poll takes work
# too; and its minimum with a spare allowance. (For responses of 50 ms, a minimum of 0.01 polls every third one twice,
# and 0.05 delays each by 100 ms.)
_PRICE_SHARE = 0.0565
_CHEAPEST_S = 0.02
_CHEAP_ENOUGH_S = 2.0
# Polls per response at the fair price, and the mean latency over the geometric mean: typical values, used to estimate
# how many polls will be due.
_POLLS_AT_PRICE = 3.3
_MEAN_OVER_SCALE = 1.25
# Spare polls are used up to the first share of the allowance; a demand beyond the second share is too high.
_SPARE_SHARE = 0.25
_SHORT_SHARE = 0.85
# The longest gap, however unlikely an ending seems, because the provider may have become faster.
_LONGEST_GAP_S = 60.0

# Until so many endings are known, a few scouts are polled often, and the others not before this age.
_KNOWN_FROM = 8
_SCOUTS = 12
_SCOUT_PRICE = 0.1
_UNKNOWN_FIRST_POLL_S = 1.0
# With fewer than this many open and nothing left to send, gaps shrink in proportion to how many are open.
_TAIL = 12

# A longer wait is halved down to this, so that a lower price or a quicker table reaches the entry.
_ASK_AGAIN_S = 2.0
_ASK_AGAIN_UNKNOWN_S = 0.25
# Gaps vary by this share, so that responses accepted together are not polled together.
_JITTER = 0.05
# An entry with less than this share of its gap left is polled now instead of being asked about again.
_NEARLY = 0.03
# While events announce the ends, so many responses are polled before theirs; computed again after so many ends.
_OVERDUE_SHARE = 0.02
_SLOW_EVERY = 16
# Before it is known whether they do: half as many polls.
_PERHAPS_PRICE = 4.0
# A day: slower responses are not distinguished.
_SLOWEST_S = 86_400.0
# The error of the difference of two times that were truncated to the second: about the spread of the triangle of
# possible errors from -1 s to 1 s.
_WHOLE_SECONDS_S = 0.7
# The provider counts from the creation of the response, we from the arrival of the reply.
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
    """The learned poll times of the responses of one model and job.

    Call ``watch`` when a response was accepted; at its ``due_at`` ask ``due``: True means poll now, False means that
    ``due_at`` has moved. After a poll call ``still_running`` or ``ended``; call ``drop`` if it is given up.
    ``polls_per_minute`` is the allowance, ``nothing_to_send`` starts the tail, and ``announced`` says whether events
    announce the ends; the caller may change all three at any time. ``sharers`` is the live collection of all
    schedules that use the same allowance, including this one; None if there are no others. ``learned`` is an earlier
    ``dump``; unreadable contents are ignored.
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
        self.announced = Announced.NOT
        # The age that few responses exceed, and after how many ends it was computed.
        self._slow_s, self._slow_at = 0.0, 0.0
        # How many responses are watched now.
        self.watched = 0
        self._sharers = (self,) if sharers is None else sharers
        self._rng = rng
        self._table = LatencyTable()
        self._scouts = 0
        if learned is not None:
            self._table.load(learned)

    @property
    def endings_per_s(self) -> float:
        """About how many of the watched responses end each second."""
        return self.watched / self._table.geometric_mean_s

    def watch(self, accepted_at: float, *, not_before: float = 0.0) -> Watch:
        """Start to watch a response; one accepted long ago is due at once, the oldest first."""
        self.watched += 1
        scout = self._scouts < _SCOUTS and not self._knows and self.announced is Announced.NOT
        self._scouts += scout
        watch = Watch(accepted_at, accepted_at, 0.0, not_before, self._table.enter(), self._jitter(), scout)
        self._set_due(watch, accepted_at)
        return watch

    def due(self, watch: Watch, now: float) -> bool:
        """Returns True to poll now, or False to ask again at the new ``due_at``."""
        return not self._set_due(watch, now)

    def still_running(self, watch: Watch, polled_at: float, *, not_before: float = 0.0) -> None:
        """Record that a poll sent at ``polled_at`` found the response unfinished; sets the next ``due_at``."""
        table = self._table
        # A reply out of order, or a clock that stood still, must not make it younger.
        watch.seen_s = max(watch.seen_s, polled_at - watch.accepted_at)
        table.advance(watch.trace, watch.seen_s)
        table.refresh_if_due()
        watch.not_before = not_before
        watch.spread = self._jitter()
        self._set_due(watch, polled_at)

    def ended(self, watch: Watch, now: float, *, took_s: float | None = None) -> None:
        """Record that a poll found the response ended. ``took_s`` is the provider's ``completed_at − created_at``.

        It is limited to the interval between the two polls around the ending, and ignored if it is far outside. Whole
        numbers are times truncated to the second.
        """
        lower, upper = watch.seen_s, max(now - watch.accepted_at, watch.seen_s)
        if took_s is not None and lower - _CLOCKS_DIFFER_S <= took_s <= upper + _CLOCKS_DIFFER_S:
            slack = _WHOLE_SECONDS_S if took_s == int(took_s) else 0.0
            lower, upper = (min(max(bound, lower), upper) for bound in (took_s - slack, took_s + slack))
        if upper - lower <= max(2.0 * _LONGEST_GAP_S, lower):
            self._table.end(watch.trace, lower, upper)
        else:
            # There was no poll for long (the process was down): it is only known to have run until the last one.
            self._table.leave(watch.trace)
        self._table.refresh_if_due()
        self._unwatch(watch)

    def drop(self, watch: Watch) -> None:
        """Stop watching a response whose end stays unknown."""
        self._table.leave(watch.trace)
        self._unwatch(watch)

    def dump(self) -> bytes:
        """Returns what was learned, for the next run of the same model and job: at most a few kB of JSON."""
        return self._table.dump()

    def _set_due(self, watch: Watch, now: float) -> bool:
        """Set when to ask about the response again; returns whether its poll is still in the future."""
        seen = watch.seen_s
        known = self._knows
        price, longest = self._price_and_longest_gap(known=known, scout=watch.scout)
        gap = self._table.wait_worth(seen, price, seen + longest) - seen
        if not known and not watch.scout:
            gap = max(gap, _UNKNOWN_FIRST_POLL_S - seen)
        elif self.announced is Announced.RELIABLY:
            # By then nearly every response is announced; one that is not is polled.
            gap = max(gap, self._overdue_s() - seen)
        target = max(watch.accepted_at + seen + gap * watch.spread, watch.not_before)
        # A lower price or a quicker table must reach long waits: after half of one, ask again.
        rest = target - now
        soon = _ASK_AGAIN_S if known else _ASK_AGAIN_UNKNOWN_S
        watch.due_at = target if rest <= soon else now + max(soon, 0.5 * rest)
        return rest > _NEARLY * gap or now < watch.not_before

    def _price_and_longest_gap(self, *, known: bool, scout: bool) -> tuple[float, float]:
        fair = _PRICE_SHARE * self._table.geometric_mean_s
        in_all, endings_per_s = 0, 0.0
        for each in self._sharers:
            in_all += each.watched
            endings_per_s += each.endings_per_s
        round_s = in_all / (_SHORT_SHARE * self.polls_per_minute / 60.0)
        short = self._strain(endings_per_s, _SHORT_SHARE)
        if short > 1.0:
            # One round over all open responses takes that long; a much longer wait would leave the allowance unused.
            fair, longest = fair * short, max(1.5 * round_s, 2.0 * self._table.geometric_mean_s)
        else:
            longest = max(_LONGEST_GAP_S, round_s)
            if fair > _CHEAP_ENOUGH_S:
                fair = max(_CHEAP_ENOUGH_S, fair * min(1.0, self._strain(endings_per_s, _SPARE_SHARE)))
        if scout and not known:
            fair *= _SCOUT_PRICE
        elif self.nothing_to_send and in_all < _TAIL:
            fair *= (in_all / _TAIL) ** 2
        if self.announced is Announced.PERHAPS:
            fair *= _PERHAPS_PRICE
        return max(fair, _CHEAPEST_S), longest

    def slow_s(self, share: float) -> float:
        """Returns a time that about this share of the responses exceeds; 0 if nothing is known."""
        if not self._knows:
            return 0.0
        age_s = _CHEAPEST_S
        while age_s < _SLOWEST_S and self._table.survival(age_s) > share:
            age_s *= 1.1
        return age_s

    def _overdue_s(self) -> float:
        if abs(self._table.endings - self._slow_at) >= _SLOW_EVERY:
            self._slow_s, self._slow_at = self.slow_s(_OVERDUE_SHARE), self._table.endings
        return self._slow_s

    def _strain(self, endings_per_s: float, share: float) -> float:
        """Returns the factor on the fair price at which all polls together use this share of the allowance.

        At x² times the fair price, a response takes 3.3 / x polls and is delayed by 3.3 · price · x, which lengthens
        its rounds; the x at which the polls meet the allowance solves a quadratic equation. All schedules that share
        the allowance solve the same one, so all slow down alike.
        """
        lag = _POLLS_AT_PRICE * _PRICE_SHARE
        demand = _POLLS_AT_PRICE * endings_per_s / (share * self.polls_per_minute / 60.0)
        root = (math.sqrt(_MEAN_OVER_SCALE**2 + 4.0 * lag * demand) - _MEAN_OVER_SCALE) / (2.0 * lag)
        return root * root

    @property
    def _knows(self) -> bool:
        return self._table.endings >= _KNOWN_FROM

    def _jitter(self) -> float:
        return self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)

    def _unwatch(self, watch: Watch) -> None:
        self.watched -= 1
        self._scouts -= watch.scout
