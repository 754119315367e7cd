"""What is due of a schedule: called every quarter of an hour through simulated days, and through a year."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core.states import RunState
from orchestrator.policy.due_nights import CatchUp, DueNight, KnownNight, NothingDue, decide, is_late, resume_at
from orchestrator.policy.timetable import Timetable

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
TICK_S = 900.0


@dataclass
class Machine:
    """What runs made of a schedule, with runs that take a while, end as given, and block a second one."""

    table: Timetable
    catch_up: CatchUp = "latest"
    takes_s: float = 600.0
    ends: Callable[[date, float], tuple[RunState, str | None]] = lambda _day, _now: (RunState.FINISHED, None)
    nights: dict[date, KnownNight] = field(default_factory=dict)
    begun: Counter[date] = field(default_factory=Counter)
    worked_at: list[tuple[date, float]] = field(default_factory=list)
    _done_at: dict[date, float] = field(default_factory=dict)

    def call(self, now: float) -> DueNight | NothingDue:
        self._finish(now)
        decision = decide(self.table, self.catch_up, [*self.nights.values()][-20:], now)
        if isinstance(decision, DueNight):
            day = decision.slot.day
            self.begun[day] += decision.run is None
            self.worked_at.append((day, now))
            self.nights[day] = KnownNight(day=day, run=f"job-{day}", state=RunState.ACTIVE, at_work=True)
            self._done_at[day] = now + self.takes_s
        return decision

    def _finish(self, now: float) -> None:
        for day, at in [*self._done_at.items()]:
            if at <= now:
                del self._done_at[day]
                state, reason = self.ends(day, at)
                again = resume_at(reason, cap="day", now=at, next_slot=None)
                self.nights[day] = KnownNight(day=day, run=f"job-{day}", state=state, reason=reason, resume_at=again)


def clock(*parts: int) -> datetime:
    """A time without a zone, which ``ticks`` adds."""
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


def ticks(begin: datetime, days: int, zone: ZoneInfo) -> Iterator[float]:
    end = begin.replace(tzinfo=zone) + timedelta(days=days)
    at = begin.replace(tzinfo=zone).timestamp()
    while at < end.timestamp():
        yield at
        at += TICK_S


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


# ── a year ────────────────────────────────────────────────────────────────────────────────────────────────────


def all_nights_once(zone: ZoneInfo, wall: str, begin: datetime, days: int) -> None:
    machine = Machine(Timetable(wall, zone))
    calls = [*ticks(begin, days, zone)]
    for now in calls:
        machine.call(now)
    # The first call runs the latest night before it.
    first = machine.table.latest(calls[0])
    assert first is not None
    assert [*machine.begun] == [slot.day for slot in machine.table.between(first.at - 1, calls[-1])]
    assert set(machine.begun.values()) == {1}
    assert len(machine.worked_at) == len(machine.begun)
    print(f"{zone.key} {wall}: {len(calls):,} calls, {len(machine.begun)} nights, each once")  # noqa: T201


@pytest.mark.parametrize("wall", ["02:30", "15 2 * * mon-sat"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [(BERLIN, "2027-03-28"), (BERLIN, "2027-10-31"), (NEW_YORK, "2027-03-14"), (NEW_YORK, "2027-11-07")],
)
def test_each_night_around_a_clock_change_runs_once(zone: ZoneInfo, change: str, wall: str) -> None:
    all_nights_once(zone, wall, datetime.fromisoformat(change) - timedelta(days=2), 4)


@pytest.mark.long
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
@pytest.mark.parametrize("wall", ["02:30", "01:15", "23:50", "15 2 * * mon-sat"])
def test_each_night_of_a_year_runs_once(zone: ZoneInfo, wall: str) -> None:
    all_nights_once(zone, wall, clock(2027, 1, 1), 365)


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_nights_begin_within_a_call_of_their_slot(zone: ZoneInfo) -> None:
    machine = Machine(Timetable("02:30", zone))
    for now in ticks(clock(2027, 3, 13), 16, zone):
        machine.call(now)
    for day, now in machine.worked_at[1:]:
        slot = machine.table.slot_of(day)
        assert slot is not None
        assert 0 <= now - slot.at < TICK_S


# ── missed slots ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("missed", [0, 1, 9])
@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_a_machine_that_was_asleep(catch_up: CatchUp, missed: int) -> None:
    machine = Machine(Timetable("02:15", BERLIN), catch_up=catch_up)
    for now in ticks(clock(2026, 11, 1, 2, 15), 1, BERLIN):
        machine.call(now)
    assert dict(machine.begun) == {date(2026, 11, 1): 1}
    woken = clock(2026, 11, 2 + missed, 1, 0)
    for now in ticks(woken, 1, BERLIN):
        machine.call(now)
    days = sorted(day.day for day in machine.begun)
    tonight, last = 2 + missed, 1 + missed
    if catch_up == "all":
        assert days == [*range(1, tonight + 1)]
    elif catch_up == "latest":
        assert days == sorted({1, last, tonight})
    else:
        assert days == sorted({1, tonight})
    assert set(machine.begun.values()) == {1}
    in_order = [day for day, _ in machine.worked_at]
    assert in_order == sorted(in_order)


def test_a_machine_that_is_asleep_now_and_then_runs_each_night_at_most_once() -> None:
    rng = random.Random(7)
    for catch_up in ("latest", "all"):
        machine = Machine(Timetable("23:30", NEW_YORK, until=time(5, 0)), catch_up=catch_up, takes_s=5400.0)
        asleep_until = 0.0
        for now in ticks(clock(2027, 2, 1), 60, NEW_YORK):
            if now < asleep_until:
                continue
            if rng.random() < 0.01:
                asleep_until = now + rng.choice([1800.0, 30_000.0, 400_000.0])
            machine.call(now)
        assert set(machine.begun.values()) == {1}
        if catch_up == "all":
            first, last = min(machine.begun), max(machine.begun)
            assert len(machine.begun) == (last - first).days + 1


# ── halts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_that_used_up_the_days_budget_continues_after_midnight_utc() -> None:
    midnight = datetime(2026, 11, 30, tzinfo=UTC).timestamp()

    def ends(_: date, now: float) -> tuple[RunState, str | None]:
        return (RunState.HALTED, "budget") if now < midnight else (RunState.FINISHED, None)

    machine = Machine(Timetable("23:40", ZoneInfo("UTC")), ends=ends)
    machine.nights[date(2026, 11, 28)] = night("2026-11-28", RunState.FINISHED)
    for now in ticks(clock(2026, 11, 29, 23, 30), 1, ZoneInfo("UTC")):
        machine.call(now - 300)
    assert [day for day, _ in machine.worked_at] == [date(2026, 11, 29)] * 2
    assert [now - midnight for _, now in machine.worked_at] == [-1200.0, 600.0]
    assert machine.nights[date(2026, 11, 29)].state is RunState.FINISHED


@pytest.mark.parametrize(
    ("reason", "cap", "expected"),
    [
        ("budget", "day", "2026-12-01T00:00"),
        ("budget", "month", "2026-12-01T00:00"),
        ("budget", "run", None),
        ("budget", None, None),
        ("insufficient_quota", None, "2026-11-30T23:50"),
        ("unreachable", None, "2026-11-30T23:50"),
        ("deadline", None, "2027-01-01T00:00"),
        ("in_doubt", None, None),
        ("invalid_api_key", None, None),
        ("bad_row", None, None),
        ("input_shrank", None, None),
        (None, None, None),
    ],
)
def test_when_a_halt_is_over(reason: str | None, cap: str | None, expected: str | None) -> None:
    now, following = (at(text, ZoneInfo("UTC")) for text in ("2026-11-30T22:50", "2027-01-01T00:00"))
    found = resume_at(reason, cap=cap, now=now, next_slot=following)
    assert found == (None if expected is None else at(expected, ZoneInfo("UTC")))


def test_the_month_after_december_is_january() -> None:
    now = at("2026-12-31T23:50", ZoneInfo("UTC"))
    assert resume_at("budget", cap="month", now=now, next_slot=None) == at("2027-01-01T00:00", ZoneInfo("UTC"))
    assert resume_at("budget", cap="day", now=now, next_slot=None) == at("2027-01-01T00:00", ZoneInfo("UTC"))


def night(day: str, state: RunState, **more: object) -> KnownNight:
    return replace(KnownNight(day=date.fromisoformat(day), run=f"job-{day}", state=state), **more)  # type: ignore[arg-type]


def test_what_needs_a_person_is_left_until_the_next_night() -> None:
    table = Timetable("02:15", BERLIN)
    held = night("2026-11-29", RunState.HALTED, reason="in_doubt")
    waiting = decide(table, "latest", [held], at("2026-11-29T12:00"))
    assert isinstance(waiting, NothingDue)
    assert "orchestrator resume job-2026-11-29" in waiting.reason
    assert waiting.until == at("2026-11-30T02:15")
    for catch_up in ("latest", "all", "none"):
        due = decide(table, catch_up, [held], at("2026-11-30T02:15"))
        assert isinstance(due, DueNight)
        assert (due.slot.day, due.run) == (date(2026, 11, 30), None)


def test_an_interrupted_night_is_resumed_and_a_busy_one_is_left_alone() -> None:
    table = Timetable("02:15", BERLIN, until=time(6, 30))
    paused = night("2026-11-29", RunState.ACTIVE)
    due = decide(table, "latest", [paused], at("2026-11-29T03:00"))
    assert due == DueNight(table.latest(at("2026-11-29T03:00")), "job-2026-11-29", at("2026-11-29T06:30"))  # type: ignore[arg-type]
    busy = decide(table, "latest", [replace(paused, at_work=True)], at("2026-11-30T03:00"))
    assert isinstance(busy, NothingDue)
    assert "another process works on job-2026-11-29" in busy.reason
    closed = decide(table, "latest", [paused], at("2026-11-29T06:30"))
    assert isinstance(closed, NothingDue)
    assert closed.until == at("2026-11-30T02:15")


def test_all_nights_are_finished_in_their_order_where_all_are_wanted() -> None:
    table = Timetable("02:15", BERLIN)
    nights = [night("2026-11-27", RunState.ACTIVE), night("2026-11-28", RunState.FINISHED)]
    first = decide(table, "all", nights, at("2026-11-29T03:00"))
    assert isinstance(first, DueNight)
    assert first.run == "job-2026-11-27"
    nights[0] = night("2026-11-27", RunState.HALTED, reason="budget", resume_at=at("2026-11-29T04:00"))
    waiting = decide(table, "all", nights, at("2026-11-29T03:00"))
    assert isinstance(waiting, NothingDue)
    assert waiting.until == at("2026-11-29T04:00")
    then = decide(table, "all", [night("2026-11-27", RunState.FINISHED), nights[1]], at("2026-11-29T03:00"))
    assert isinstance(then, DueNight)
    assert then.slot.day == date(2026, 11, 29)


def test_a_night_is_late_until_it_is_over() -> None:
    table = Timetable("02:15", BERLIN, late_after=time(7, 0))
    slot = table.slot_of(date(2026, 11, 29))
    assert slot is not None
    assert not is_late(table, slot, None, at("2026-11-29T06:59"))
    assert is_late(table, slot, None, at("2026-11-29T07:00"))
    assert is_late(table, slot, night("2026-11-29", RunState.ACTIVE), at("2026-11-29T07:00"))
    assert not is_late(table, slot, night("2026-11-29", RunState.FINISHED), at("2026-11-29T07:00"))
    assert not is_late(Timetable("02:15", BERLIN), slot, None, at("2026-11-29T07:00"))
