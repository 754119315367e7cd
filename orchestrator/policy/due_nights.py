"""Decides what is due of a job with a schedule: a night to begin or to resume, or nothing until some time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import RunState
from orchestrator.policy.errors.refusals import NO_MONEY
from orchestrator.policy.timetable import Slot, Timetable

__all__ = ["CatchUp", "DueNight", "KnownNight", "NothingDue", "decide", "is_late", "resume_at"]

CatchUp: TypeAlias = Literal["latest", "all", "none"]

# A night that is called for later than this was missed.
_IN_TIME_S = 3600.0
_AGAIN_AFTER_S = 3600.0
_OVER = (RunState.FINISHED, RunState.CANCELLED)


@fast_dataclass
class KnownNight:
    """The latest run for a day. ``at_work`` says that a process works on it."""

    day: date
    run: str
    state: RunState
    reason: str | None = None
    resume_at: float | None = None
    at_work: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in _OVER


@fast_dataclass(kw_only=False)
class DueNight:
    """A night to work on now, sending until ``closes_at``; ``run`` is None if it was not begun."""

    slot: Slot
    run: str | None
    closes_at: float | None


@fast_dataclass(kw_only=False)
class NothingDue:
    """There is nothing to do, and why; ``until`` is when that may change by itself."""

    reason: str
    until: float | None


def decide(
    timetable: Timetable, catch_up: CatchUp, nights: Sequence[KnownNight], now: float
) -> DueNight | NothingDue:
    """What is due now; asked again after each night that was worked on."""
    latest = timetable.latest(now)
    if latest is None:
        return NothingDue("it was never due yet", _next_at(timetable, now))
    busy = next((night.run for night in nights if night.at_work), None)
    if busy is not None:
        return NothingDue(f"another process works on {busy}", None)
    closes_at = timetable.closes_at(latest)
    if closes_at is not None and now >= closes_at:
        return NothingDue("nothing is sent after the time that `until` names", _next_at(timetable, now))
    known = {night.day: night for night in nights}
    reason = "the latest night was missed" if catch_up == "none" else "the latest night is over"
    for slot in _wanted(timetable, catch_up, known, latest, now):
        night = known.get(slot.day)
        if night is None:
            if catch_up != "none" or now - slot.at < _IN_TIME_S:
                return DueNight(slot, None, closes_at)
            continue
        if night.is_over:
            reason = f"{night.run} is {night.state.value}"
        elif night.state is not RunState.HALTED:
            return DueNight(slot, night.run, closes_at)
        elif night.resume_at is None:
            reason = f"{night.run} is halted ({night.reason}) and waits for you: orchestrator resume {night.run}"
        elif night.resume_at > now:
            return NothingDue(f"{night.run} is halted ({night.reason})", night.resume_at)
        else:
            return DueNight(slot, night.run, closes_at)
    return NothingDue(reason, _next_at(timetable, now))


def _next_at(timetable: Timetable, now: float) -> float | None:
    following = next(timetable.after(now), None)
    return None if following is None else following.at


def is_late(timetable: Timetable, slot: Slot, night: KnownNight | None, now: float) -> bool:
    """Whether a night should be finished by now and is not."""
    late_at = timetable.late_at(slot)
    return late_at is not None and now >= late_at and not (night is not None and night.is_over)


def resume_at(reason: str | None, *, cap: str | None, now: float, next_slot: float | None) -> float | None:
    """When the cause of a halt is over by itself; None if a person has to see to it, or if that is not known.

    ``cap`` names the budget that is used up: ``run``, ``day`` or ``month``. A deadline passed: then the rest is for
    the next night.
    """
    if reason == "budget":
        return _next_period(cap, now)
    if reason == "deadline":
        return next_slot
    return now + _AGAIN_AFTER_S if reason in NO_MONEY or reason == "unreachable" else None


def _next_period(cap: str | None, now: float) -> float | None:
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if cap == "day":
        return (today + timedelta(days=1)).timestamp()
    if cap == "month":
        return (today.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
    return None


def _wanted(
    timetable: Timetable, catch_up: CatchUp, known: dict[date, KnownNight], latest: Slot, now: float
) -> list[Slot]:
    """The slots that may be worked on, the oldest first."""
    if catch_up != "all" or not known:
        return [latest]
    open_days = [night.day for night in known.values() if not night.is_over]
    first_day = min([max(known), *open_days])
    first = timetable.slot_of(first_day)
    # A day without a slot has a run that was given the day by hand.
    after = (
        first.at - 1
        if first is not None
        else datetime.combine(first_day, datetime.min.time(), timetable.zone).timestamp()
    )
    return timetable.between(after, now) or [latest]
