"""How fast to send: found out by sending, because a limit may be unknown, wrong, or shared with others.

A refusal (429) can mean two things: we are too fast, or the provider refuses now and then whatever we do. The two are
told apart by the one thing that differs: *does slowing down help?*

* A single refusal among successes changes nothing; the request is sent again in its turn.
* A cluster of them is trouble. At a speed close to one that is known to be too fast, it is cut by a fifth. Anywhere
  else there is a trial: a pause, then some calls at a third of the speed. If refusals are gone, speed was the cause,
  and what was accepted in the last minute is where to go on (half of the speed at most). If they are clearly fewer,
  it was too, and a slower trial follows. If not, it was not: the speed is restored, and such a share of refusals is
  expected from then on.
* Ten refusals in a row, or a cluster with a long ``Retry-After``, mean that nothing goes through for a while: stop
  for as long as the provider says. Then go on at half of what was accepted in the last minute, because that is known
  to be allowed: whatever the provider counts (fixed minutes, sliding ones, a bucket that holds a minute's worth), it
  let that much through in a minute, so its allowance is at least half of it. Should the replies that are still on
  their way say that most went through, it is taken back: refusals are made quickly, and may only have come first.
  Pauses that follow each other without a success in between get longer, up to a minute.

Only calls sent *after* the last change of speed say anything about it; the late replies of those sent before are part
of the same episode, and an episode is answered once. Speed grows only while it is used: quickly far below what was
too fast, gently near it.

``slow_down`` says that speed rose too fast. The first one takes a third of it, and beyond what is left it then grows
by half in 15 minutes, as the provider's ramp rule says (responses API, "Rate limits"). Later ones, when it has hardly
risen, count as other refusals do: where slowing down does not help, they were not about speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.policy.rate_limits.sliding_window import Window

__all__ = ["Pace"]

# The alarm: each refusal raises it by one, each call lowers it by the share of refusals that is tolerated, and at a
# height of two it rings. A share that is expected wanders, so its alarm falls faster and rings later. Where the
# provider says that there is room, it takes two refusals in five to ring it at all.
_TOLERATED = 0.06
_ALARM = 2.0
_ALARM_WITH_ROOM = 0.15
_NOISE_TOLERATED = 1.5
_NOISE_ALARM = 24.0

# A trial: so many calls at a third of the speed, or at as many a minute as were sent in the last one (but 2,000 at
# least), whichever is slower.
_TRIAL_CALLS = 32
_TRIAL_SPEED = 1.0 / 3.0
_MODEST = 2000.0
# One refusal in a trial may be chance; more than this share of them is no chance either: still too fast.
_CHANCE = 1
_INCREDIBLE = 0.4
# Clearly fewer: nearly all of the calls were refused that left just before the trial (of four or more); or the trial
# before this one saw half as many again.
_LATE_CALLS = 4
_NEARLY_ALL = 0.75
_CLEARLY_FEWER = 0.7
# Added to the refusals of a trial: an expectation that is too low would ring the alarm again and again.
_DOUBT = 3

_CUT = 0.8
_HALF = 0.5
_NOTHING_GOES = 10
_SLOWEST = 20.0

# Growth per second, as an exponent: doubled in six seconds up to 65 % of what was too fast (in 18 where no limit is
# known at all: the faster we are, the more is on the wire when the first refusal comes); one per cent up to 80 %;
# then half a per cent. Where that was too fast a second time, slow speeds grow less: successes wear the alarm off,
# and at 60 a minute they are few. After slow_down by half in 15 minutes.
_QUICK = math.log(2.0) / 6.0
_INTO_THE_DARK = math.log(2.0) / 18.0
_QUICK_UP_TO = 0.65
_GENTLE = 0.01
_GENTLEST = 0.005
_NOT_SLOW = 1200.0
_RISE = 1.5
_RAMP = math.log(_RISE) / 900.0
# Nobody looked for longer than this: what happened meanwhile is not known to have been full use.
_LONGEST_STRIDE_S = 5.0

_LONG_WAIT_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Trial:
    """A stretch of slower calls, to see whether that helps; ``speed`` and ``too_fast`` are those before it.

    ``ramp`` says that it was a ``slow_down`` that led to it. ``before`` is the share that was refused in the trial
    that this one follows, and the late calls are those that left before it, at the full speed.
    """

    speed: float
    too_fast: float
    ramp: bool
    before: float = 0.0
    calls: int = 0
    refusals: int = 0
    late_calls: int = 0
    late_refusals: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there were calls enough, or so many refusals that more cannot change what they say."""
        return self.calls >= _TRIAL_CALLS or self.refusals > _INCREDIBLE * _TRIAL_CALLS

    @property
    def share(self) -> float:
        """The share that was refused."""
        return self.refusals / self.calls

    @property
    def helps(self) -> bool:
        """Whether clearly fewer are refused than at the speed before: chance would not have it so."""
        nearly_all = self.late_calls >= _LATE_CALLS and self.late_refusals >= _NEARLY_ALL * self.late_calls
        return nearly_all or self.share < _CLEARLY_FEWER * self.before


@dataclass(slots=True)
class _Retreat:
    """A stop because nothing went through, and the replies since then to calls that had left before it."""

    speed: float
    too_fast: float
    late_calls: int = 0
    late_refusals: int = 0

    @property
    def was_wrong(self) -> bool:
        """Whether most went through after all: a refusal is made faster than a response, and came first."""
        return self.late_calls >= 2 * _LATE_CALLS and 2 * self.late_refusals < self.late_calls


class Pace:
    """A speed in calls per minute that learns from accepted and refused calls."""

    __slots__ = (
        "_accepted",
        "_alarm",
        "_changed_at",
        "_confirmed",
        "_noise",
        "_pauses",
        "_ramp_from",
        "_retreat",
        "_streak",
        "_too_fast",
        "_trial",
        "paused_until",
        "per_minute",
    )

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.paused_until = -math.inf
        # A speed that is known to have been too fast, and one beyond which it may only rise by the ramp rule.
        self._too_fast = math.inf
        # Whether a speed close to it was too fast a second time.
        self._confirmed = False
        self._ramp_from = math.inf
        # Calls sent before this moment say nothing about the present speed.
        self._changed_at = -math.inf
        self._alarm = 0.0
        # Refusals since the last accepted call, and pauses among them.
        self._streak = 0
        self._pauses = 0
        self._accepted = Window()
        self._trial: _Trial | None = None
        self._retreat: _Retreat | None = None
        # The share of refusals to be expected at any speed.
        self._noise = 0.0

    @property
    def found(self) -> float | None:
        """The speed that refusals have taught; None while none has, and it is only as high as it was needed."""
        if self._trial is not None:
            return self._trial.speed
        return None if self._too_fast == self._ramp_from == math.inf else self.per_minute

    def grow(self, used_s: float, ceiling: float) -> None:
        """The speed was used for so long: a little more of it, up to the ceiling."""
        if self._trial is not None or self._streak:
            return
        ramp = self.per_minute >= self._ramp_from
        if ramp:
            growth = _RAMP
        elif self.per_minute < _QUICK_UP_TO * self._too_fast:
            growth = _QUICK if min(self._too_fast, ceiling) < math.inf else _INTO_THE_DARK
        elif self.per_minute > _CUT * self._too_fast:
            growth = _GENTLEST * (min(1.0, self.per_minute / _NOT_SLOW) if self._confirmed else 1.0)
        else:
            growth = _GENTLE
        grown = self.per_minute * math.exp(growth * min(used_s, _LONGEST_STRIDE_S))
        self.per_minute = min(grown, max(ceiling, _SLOWEST), math.inf if ramp else self._ramp_from)
        if ramp:
            self._ramp_from = self.per_minute

    def start_from(self, per_minute: float) -> None:
        """Begin at least at this speed, unless a refusal has already taught better."""
        if self.found is None:
            self.per_minute = max(self.per_minute, per_minute)

    def recover(self, per_minute: float) -> None:
        """Take up what an earlier run had ``found``: from half of it quickly, and gently beyond it."""
        self._too_fast = per_minute / _CUT
        self.per_minute = max(_SLOWEST, per_minute * _HALF)

    def accepted(self, now: float, sent_at: float) -> None:
        """A call that left at ``sent_at`` was accepted."""
        self._accepted.add(now, 1)
        self._streak = self._pauses = 0
        if sent_at >= self._changed_at:
            self._count(now, 0)
        else:
            self._count_late(now, 0)

    def refused(
        self,
        now: float,
        sent_at: float,
        *,
        speed: float,
        retry_after_s: float | None,
        ramp: bool = False,
        room: bool = False,
    ) -> None:
        """A call that left at ``sent_at`` was refused.

        ``speed`` is what was really sent of late, per minute. ``ramp`` is the provider's ``slow_down``. ``room`` says
        that by the provider's own word there is allowance left, so that our speed is hardly the cause.
        """
        self._streak += 1
        if sent_at < self._changed_at:
            self._count_late(now, 1)
            return
        if ramp and self._ramp_from == math.inf:
            self._slow_to(now, min(speed, self.per_minute) / _RISE, ramp=True)
            self._pause(now, retry_after_s)
        elif self._pauses:
            # The first word after a pause is no again.
            self._changed_at = now
            self._pause(now, retry_after_s)
        elif self._streak >= _NOTHING_GOES:
            if not room:
                trial = self._trial
                retreat = _Retreat(trial.speed if trial is not None else self.per_minute, self._too_fast)
                self._go_back(now)
                self._retreat = retreat
            self._pause(now, retry_after_s)
        else:
            self._count(now, 1, alarm=_ALARM_WITH_ROOM if room else 1.0)
            if self._trial is not None or self._alarm < _ALARM + _NOISE_ALARM * self._noise:
                return
            if retry_after_s is not None and retry_after_s > _LONG_WAIT_S:
                self._go_back(now)
            else:
                self._trouble(now, min(speed, self.per_minute), ramp=ramp)
            self._pause(now, retry_after_s)

    def _count(self, now: float, refused: int, *, alarm: float = 0.0) -> None:
        trial = self._trial
        if trial is None:
            self._alarm = max(0.0, self._alarm + alarm - _TOLERATED - _NOISE_TOLERATED * self._noise)
            return
        trial.calls += 1
        trial.refusals += refused
        if trial.is_over:
            self._end(now, trial)

    def _count_late(self, now: float, refused: int) -> None:
        """Count the reply to a call that left before the last change of speed."""
        if self._trial is not None:
            self._trial.late_calls += 1
            self._trial.late_refusals += refused
        retreat = self._retreat
        if retreat is not None:
            retreat.late_calls += 1
            retreat.late_refusals += refused
            if retreat.was_wrong:
                self._too_fast = retreat.too_fast
                self._trouble(now, retreat.speed, ramp=False)

    def _go_back(self, now: float) -> None:
        """Half of what a minute let through is allowed; more than all of it, hardly."""
        before = self._trial.speed if self._trial is not None else self.per_minute
        self._noise = 0.0
        allowed = self._accepted_last_minute(now)
        self._too_fast = max(allowed, before / 8.0) / _QUICK_UP_TO
        self._change(now, min(allowed / 2.0, self.per_minute))

    def _accepted_last_minute(self, now: float) -> float:
        return float(self._accepted.used(now))

    def _trouble(self, now: float, speed: float, *, ramp: bool) -> None:
        """Too many were refused: slow down where that is known to help, else try whether it does."""
        if speed >= _CUT * self._too_fast:
            self._too_fast = speed
            self._slow_to(now, speed * _CUT, ramp=ramp)
            self._confirmed = True
        elif self._noise:
            # More than the last trial explained: it was wrong, or things have changed.
            self._go_back(now)
        else:
            self._try(now, speed, min(speed * _TRIAL_SPEED, max(_MODEST, self._accepted_last_minute(now))), ramp=ramp)

    def _try(self, now: float, speed: float, trial_speed: float, *, ramp: bool, before: float = 0.0) -> None:
        trial = _Trial(speed, self._too_fast, ramp, before)
        self._change(now, trial_speed)
        self._trial = trial

    def _end(self, now: float, trial: _Trial) -> None:
        if trial.refusals <= _CHANCE:
            # A minute's worth of what was accepted works, and so did the trial; rarely does more than half.
            works = max(self._accepted_last_minute(now), self.per_minute)
            self._too_fast = trial.speed
            self._slow_to(now, min(trial.speed * _HALF, works), ramp=trial.ramp)
        elif trial.share > _INCREDIBLE or trial.helps:
            self._too_fast = trial.speed
            self._try(now, self.per_minute, self.per_minute * _TRIAL_SPEED, ramp=trial.ramp, before=trial.share)
        else:
            self._noise = (trial.refusals + _DOUBT) / trial.calls
            self._too_fast = trial.too_fast
            self._change(now, trial.speed)

    def _slow_to(self, now: float, per_minute: float, *, ramp: bool) -> None:
        """Speed was the cause: go on with less of it, and rise from there by the ramp rule if that was broken."""
        self._change(now, per_minute)
        if ramp:
            self._ramp_from = self.per_minute

    def _change(self, now: float, per_minute: float) -> None:
        self.per_minute = max(_SLOWEST, per_minute)
        self._changed_at = now
        self._alarm = 0.0
        self._trial = self._retreat = None
        self._confirmed = False

    def _pause(self, now: float, retry_after_s: float | None) -> None:
        wait_s = max(retry_after_s or 0.0, _FIRST_PAUSE_S * 2.0**self._pauses)
        self._pauses = min(self._pauses + 1, 16)
        self.paused_until = max(self.paused_until, now + min(wait_s, _LONGEST_PAUSE_S))
