"""Finds out how fast to send by sending, because a limit may be unknown, wrong, or shared with others.

A refusal (429) can mean two things: we send too fast, or the provider refuses calls at random. The difference is
whether *slowing down helps*:

* A single refusal among successes changes nothing; the request is sent again in its turn.
* A cluster of refusals rings an alarm. Near a speed that is known as too fast, the speed is cut by a fifth. Elsewhere
  a trial follows: a pause, then some calls at a third of the speed. If the refusals stop, speed was the cause, and
  sending resumes at what was accepted in the last minute (at most half of the speed). If they are clearly fewer,
  speed was the cause too, and a slower trial follows. Otherwise it was not: the speed is restored, and that share of
  refusals (noise) is expected from then on.
* Ten refusals in a row, or a cluster with a long ``Retry-After``, mean that no call succeeds: sending stops for as
  long as the provider asks. It resumes at half of what was accepted in the last minute, which is surely allowed:
  whether the provider counts fixed minutes, sliding ones or a bucket, it let that much through in a minute, so its
  allowance is at least half of it. If replies that arrive later show that most calls succeeded, the stop is undone:
  refusals are made quickly and may just have arrived first. Pauses without a success between them get longer, up to a
  minute.

Only calls sent *after* the last change of speed count for it; late replies to earlier calls belong to the same
episode, and each episode is answered once. The speed grows only while it is used: quickly far below what was too
fast, slowly near it.

``slow_down`` says that the speed rose too fast. The first one cuts it by a third, and it then grows by half in 15
minutes, as the provider's ramp rule says (responses API, "Rate limits"). Later ones, when the speed has hardly risen,
count like other refusals: if slowing down does not help, they were not about speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.policy.rate_limits.sliding_window import Window

__all__ = ["Pace"]

# The constants below were chosen with the simulated providers of tests/policy/test_limits_simulated.py. Each names
# the tests that fail if it is doubled (x2) or halved (/2), as tests/policy/pace_sensitivity.py prints them:
#   unknown  test_an_unknown_limit_is_found_within_a_minute: 85 % used, at most 2 % refused
#   small    test_a_small_unknown_limit_costs_few_refusals: the same with 300 per minute, for half an hour
#   shared   test_another_process_on_the_same_account_gets_its_share
#   random   test_random_refusals_slow_200_rows_by_less_than_three_seconds
#   exact    a test in test_limits.py that states the number
#   -        none; the text says what changes in runs of 4 to 15 minutes, if anything does

# Alarm: each refusal raises it by one, each call lowers it by the tolerated share. x2: unknown, small, random. /2: -
_TOLERATED_SHARE = 0.06
# The alarm rings at this level. x2: unknown, small, shared, exact. /2: shared, random.
_ALARM_REFUSALS = 2.0
# What a refusal adds while headers report room: two of five calls must fail to ring the alarm. x2: random. /2: -
_REFUSAL_WITH_ROOM = 0.15
# An expected share of refusals (noise) lowers the alarm by so many times that share. x2: -, but 1.5 times as many
# calls are refused. /2: random.
_NOISE_TOLERATED_FACTOR = 1.5
# Noise also raises the level at which the alarm rings, by so many refusals times the share. x2, /2: -, within 3 %.
_NOISE_ALARM_REFUSALS = 24.0

# Calls of one trial. x2: unknown, small, shared, random. /2: random.
_TRIAL_CALLS = 32
# Speed in a trial, as a factor of the speed before. x2: small, shared. /2: random.
_TRIAL_SPEED_FACTOR = 1.0 / 3.0
# A trial runs at most at this speed, or at what was accepted in the last minute if that is more.
# x2: exact. /2: random.
_TRIAL_BOUND_PER_MINUTE = 2000.0
# So many refusals in a trial may be chance. x2: -. 0: shared.
_CHANCE_REFUSALS = 1
# A larger share of refusals in a trial cannot be noise: the speed is still too high. x2: small. /2: random.
_TOO_FAST_SHARE = 0.4
# A trial helped if nearly all of the calls that were sent just before it were refused, if there were this many.
# x2: exact. /2: -
_MIN_LATE_CALLS = 4
# "Nearly all" of them. x2 (never): exact. /2: random.
_NEARLY_ALL_SHARE = 0.75
# A trial also helped if its share of refusals is below this factor of the one in the trial before it. x2, /2: -
_CLEARLY_FEWER_FACTOR = 0.7
# Added to the refusals of a trial to estimate noise, because too low an estimate rings the alarm again and again.
# x2: -, but up to 1.5 times as many random refusals. /2: -
_NOISE_MARGIN_REFUSALS = 3

# The factor of a cut near a speed that is known as too fast. x2: unknown, small, exact. /2: unknown, exact.
_CUT_FACTOR = 0.8
# Where to resume, as a factor of what was accepted, of the speed that a trial refuted, or of one that an earlier run
# found. x2, /2: exact.
_RESUME_FACTOR = 0.5
# After a stop, at least this factor of the speed counts as allowed. x2, /2: unknown.
_ALLOWED_FLOOR_FACTOR = 0.125
# So many refusals in a row stop all sending. x2: -. /2: random.
_STOP_AFTER_REFUSALS = 10
# No refusal slows below this speed. x2: -, but 30 % of calls are refused at a limit of 30 per minute. /2: -
_SLOWEST_PER_MINUTE = 20.0

# Growth per second, as an exponent: doubles in 6 s. x2: unknown. /2: -
_QUICK_PER_S = math.log(2.0) / 6.0
# The same while no limit is known, because more calls are in flight at the first refusal: doubles in 18 s.
# x2: unknown. /2: -
_UNKNOWN_LIMIT_PER_S = math.log(2.0) / 18.0
# Quick growth ends at this share of the speed that was too fast. x2: unknown, small. /2: unknown, exact.
_QUICK_UP_TO_SHARE = 0.65
# Growth per second from there up to ``_CUT_FACTOR`` of it. x2: unknown. /2: -
_GENTLE_PER_S = 0.01
# Growth per second beyond that. x2: unknown. /2: unknown.
_GENTLEST_PER_S = 0.005
# If that speed was too fast twice, growth below this speed shrinks in proportion, because few calls at a slow
# speed do not wear the alarm off. x2, /2: -, within 3 % at a limit of 30 per minute.
_SLOW_BELOW_PER_MINUTE = 1200.0
# After ``slow_down``, the speed is divided by this and may grow by it in 15 minutes (responses API, "Rate limits").
# x2, /2: exact.
_RAMP_FACTOR = 1.5
_RAMP_PER_S = math.log(_RAMP_FACTOR) / 900.0
# A longer time without any call counts as this much use, because it was hardly full use. x2, /2: -
_LONGEST_STEP_S = 5.0

# A cluster of refusals with a longer ``Retry-After`` stops all sending. x2: unknown. /2: -
_LONG_WAIT_S = 5.0
# The first pause without a ``Retry-After``; each further one doubles. x2, /2: -
_FIRST_PAUSE_S = 0.5
# No pause is longer. x2: exact. /2: unknown, exact.
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Trial:
    """Some slower calls that show whether that helps; ``speed`` and ``too_fast`` are the values before it.

    ``ramp`` says that a ``slow_down`` started it. ``before`` is the share of refusals in the trial before this one;
    the late calls were sent before this trial, at the full speed.
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
        """Whether there were enough calls, or so many refusals that more calls cannot change the result."""
        return self.calls >= _TRIAL_CALLS or self.refusals > _TOO_FAST_SHARE * _TRIAL_CALLS

    @property
    def share(self) -> float:
        """The share of calls that were refused."""
        return self.refusals / self.calls

    @property
    def helps(self) -> bool:
        """Whether clearly fewer calls were refused than at the speed before."""
        nearly_all = self.late_calls >= _MIN_LATE_CALLS and self.late_refusals >= _NEARLY_ALL_SHARE * self.late_calls
        return nearly_all or self.share < _CLEARLY_FEWER_FACTOR * self.before


@dataclass(slots=True)
class _Retreat:
    """A stop because no call succeeded, and the later replies to calls that were sent before it."""

    speed: float
    too_fast: float
    late_calls: int = 0
    late_refusals: int = 0

    @property
    def was_wrong(self) -> bool:
        """Whether most of those calls succeeded: refusals are made faster than responses and arrived first."""
        return self.late_calls >= 2 * _MIN_LATE_CALLS and 2 * self.late_refusals < self.late_calls


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
        # A speed that is known as too fast, and one beyond which only the ramp rule applies.
        self._too_fast = math.inf
        # Whether a speed close to it was too fast a second time.
        self._confirmed = False
        self._ramp_from = math.inf
        # Calls sent before this time say nothing about the present speed.
        self._changed_at = -math.inf
        self._alarm = 0.0
        # Refusals since the last accepted call, and pauses among them.
        self._streak = 0
        self._pauses = 0
        self._accepted = Window()
        self._trial: _Trial | None = None
        self._retreat: _Retreat | None = None
        # The share of refusals to expect at any speed.
        self._noise = 0.0

    @property
    def found(self) -> float | None:
        """The speed learned from refusals; None if there were none, so that the speed only met the demand."""
        if self._trial is not None:
            return self._trial.speed
        return None if self._too_fast == self._ramp_from == math.inf else self.per_minute

    def grow(self, used_s: float, ceiling: float) -> None:
        """Raise the speed after ``used_s`` seconds of full use, up to the ceiling."""
        if self._trial is not None or self._streak:
            return
        ramp = self.per_minute >= self._ramp_from
        if ramp:
            growth = _RAMP_PER_S
        elif self.per_minute < _QUICK_UP_TO_SHARE * self._too_fast:
            growth = _QUICK_PER_S if min(self._too_fast, ceiling) < math.inf else _UNKNOWN_LIMIT_PER_S
        elif self.per_minute > _CUT_FACTOR * self._too_fast:
            growth = _GENTLEST_PER_S * (
                min(1.0, self.per_minute / _SLOW_BELOW_PER_MINUTE) if self._confirmed else 1.0
            )
        else:
            growth = _GENTLE_PER_S
        grown = self.per_minute * math.exp(growth * min(used_s, _LONGEST_STEP_S))
        self.per_minute = min(grown, max(ceiling, _SLOWEST_PER_MINUTE), math.inf if ramp else self._ramp_from)
        if ramp:
            self._ramp_from = self.per_minute

    def start_from(self, per_minute: float) -> None:
        """Start at least at this speed, unless refusals have already set one."""
        if self.found is None:
            self.per_minute = max(self.per_minute, per_minute)

    def recover(self, per_minute: float) -> None:
        """Start from the speed that an earlier run ``found``: quickly from half of it, and slowly beyond it."""
        self._too_fast = per_minute / _CUT_FACTOR
        self.per_minute = max(_SLOWEST_PER_MINUTE, per_minute * _RESUME_FACTOR)

    def accepted(self, now: float, sent_at: float) -> None:
        """Record that a call sent at ``sent_at`` was accepted."""
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
        """Record that a call sent at ``sent_at`` was refused.

        ``speed`` is the real recent rate per minute. ``ramp`` is the provider's ``slow_down``. ``room`` says that the
        provider reports a remaining allowance, so that our speed is hardly the cause.
        """
        self._streak += 1
        if sent_at < self._changed_at:
            self._count_late(now, 1)
            return
        if ramp and self._ramp_from == math.inf:
            self._slow_to(now, min(speed, self.per_minute) / _RAMP_FACTOR, ramp=True)
            self._pause(now, retry_after_s)
        elif self._pauses:
            # The first reply after a pause is another refusal.
            self._changed_at = now
            self._pause(now, retry_after_s)
        elif self._streak >= _STOP_AFTER_REFUSALS:
            if not room:
                trial = self._trial
                retreat = _Retreat(trial.speed if trial is not None else self.per_minute, self._too_fast)
                self._fall_back(now)
                self._retreat = retreat
            self._pause(now, retry_after_s)
        else:
            self._count(now, 1, alarm=_REFUSAL_WITH_ROOM if room else 1.0)
            if self._trial is not None or self._alarm < _ALARM_REFUSALS + _NOISE_ALARM_REFUSALS * self._noise:
                return
            if retry_after_s is not None and retry_after_s > _LONG_WAIT_S:
                self._fall_back(now)
            else:
                self._slow_or_try(now, min(speed, self.per_minute), ramp=ramp)
            self._pause(now, retry_after_s)

    def _count(self, now: float, refused: int, *, alarm: float = 0.0) -> None:
        trial = self._trial
        if trial is None:
            self._alarm = max(0.0, self._alarm + alarm - _TOLERATED_SHARE - _NOISE_TOLERATED_FACTOR * self._noise)
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
                self._slow_or_try(now, retreat.speed, ramp=False)

    def _fall_back(self, now: float) -> None:
        """Resume at half of what was accepted in the last minute, which is surely allowed."""
        before = self._trial.speed if self._trial is not None else self.per_minute
        self._noise = 0.0
        allowed = self._accepted_last_minute(now)
        self._too_fast = max(allowed, before * _ALLOWED_FLOOR_FACTOR) / _QUICK_UP_TO_SHARE
        self._change(now, min(allowed * _RESUME_FACTOR, self.per_minute))

    def _accepted_last_minute(self, now: float) -> float:
        return float(self._accepted.used(now))

    def _slow_or_try(self, now: float, speed: float, *, ramp: bool) -> None:
        """Too many calls were refused: slow down if that is known to help, else start a trial."""
        if speed >= _CUT_FACTOR * self._too_fast:
            self._too_fast = speed
            self._slow_to(now, speed * _CUT_FACTOR, ramp=ramp)
            self._confirmed = True
        elif self._noise:
            # More refusals than the noise of the last trial: it was wrong, or conditions have changed.
            self._fall_back(now)
        else:
            self._try(
                now,
                speed,
                min(speed * _TRIAL_SPEED_FACTOR, max(_TRIAL_BOUND_PER_MINUTE, self._accepted_last_minute(now))),
                ramp=ramp,
            )

    def _try(self, now: float, speed: float, trial_speed: float, *, ramp: bool, before: float = 0.0) -> None:
        trial = _Trial(speed, self._too_fast, ramp, before)
        self._change(now, trial_speed)
        self._trial = trial

    def _end(self, now: float, trial: _Trial) -> None:
        if trial.refusals <= _CHANCE_REFUSALS:
            # What was accepted in a minute works, and so does the speed of the trial; more than half rarely does.
            works = max(self._accepted_last_minute(now), self.per_minute)
            self._too_fast = trial.speed
            self._slow_to(now, min(trial.speed * _RESUME_FACTOR, works), ramp=trial.ramp)
        elif trial.share > _TOO_FAST_SHARE or trial.helps:
            self._too_fast = trial.speed
            self._try(
                now, self.per_minute, self.per_minute * _TRIAL_SPEED_FACTOR, ramp=trial.ramp, before=trial.share
            )
        else:
            self._noise = (trial.refusals + _NOISE_MARGIN_REFUSALS) / trial.calls
            self._too_fast = trial.too_fast
            self._change(now, trial.speed)

    def _slow_to(self, now: float, per_minute: float, *, ramp: bool) -> None:
        """Speed was the cause: reduce it, and apply the ramp rule from there if that was broken."""
        self._change(now, per_minute)
        if ramp:
            self._ramp_from = self.per_minute

    def _change(self, now: float, per_minute: float) -> None:
        self.per_minute = max(_SLOWEST_PER_MINUTE, per_minute)
        self._changed_at = now
        self._alarm = 0.0
        self._trial = self._retreat = None
        self._confirmed = False

    def _pause(self, now: float, retry_after_s: float | None) -> None:
        wait_s = max(retry_after_s or 0.0, _FIRST_PAUSE_S * 2.0**self._pauses)
        self._pauses = min(self._pauses + 1, 16)
        self.paused_until = max(self.paused_until, now + min(wait_s, _LONGEST_PAUSE_S))
