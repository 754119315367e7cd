"""The slots of a schedule, on days without and with a clock change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from orchestrator.policy.timetable import NotATime, Slot, Timetable, wall_time

BERLIN, NEW_YORK, LORD_HOWE = map(ZoneInfo, ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"))


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def shown(moment: float | None, zone: ZoneInfo = BERLIN) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, zone).strftime("%m-%d %H:%M %Z")


def test_the_latest_and_the_next_slots() -> None:
    table = Timetable("02:15", BERLIN)
    before, after = table.latest(at("2026-11-29T02:14:59")), table.latest(at("2026-11-29T02:15:00"))
    assert before == Slot(date(2026, 11, 28), at("2026-11-28T02:15"))
    assert after == Slot(date(2026, 11, 29), at("2026-11-29T02:15"))
    assert [slot.day.day for slot in islice(table.after(at("2026-11-29T02:15")), 3)] == [30, 1, 2]
    assert table.slot_of(date(2026, 11, 29)) == after


def test_a_cron_expression_may_leave_days_out() -> None:
    table = Timetable("15 2 * * mon-sat", BERLIN)
    assert date(2026, 11, 29).isoweekday() == 7
    assert table.slot_of(date(2026, 11, 29)) is None
    latest = table.latest(at("2026-11-29T23:00"))
    assert latest is not None
    assert latest.day == date(2026, 11, 28)


def test_a_slot_may_be_years_ago() -> None:
    latest = Timetable("0 3 29 2 *", BERLIN).latest(at("2027-11-29T23:00"))
    assert latest == Slot(date(2024, 2, 29), at("2024-02-29T03:00"))


@pytest.mark.parametrize(
    ("zone", "wall", "day", "expected"),
    [
        (BERLIN, "02:30", "2027-03-28", "03-28 03:00 CEST"),
        (BERLIN, "02:30", "2027-10-31", "10-31 02:30 CEST"),
        (BERLIN, "03:00", "2027-10-31", "10-31 03:00 CET"),
        (NEW_YORK, "02:00", "2027-03-14", "03-14 03:00 EDT"),
        (NEW_YORK, "01:30", "2027-11-07", "11-07 01:30 EDT"),
        (LORD_HOWE, "02:15", "2027-10-03", "10-03 02:30 +11"),
        (LORD_HOWE, "01:45", "2027-04-04", "04-04 01:45 +11"),
    ],
)
def test_clock_changes(zone: ZoneInfo, wall: str, day: str, expected: str) -> None:
    table, the_day = Timetable(wall, zone), date.fromisoformat(day)
    slot = table.slot_of(the_day)
    assert slot is not None
    assert shown(slot.at, zone) == expected
    around = table.between(at(day, zone) - 86_400, at(day, zone) + 2 * 86_400)
    assert [each.day for each in around] == [the_day + timedelta(days=offset) for offset in (-1, 0, 1)]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, ZoneInfo("UTC"), ZoneInfo("America/Santiago")])
@pytest.mark.parametrize("wall", ["00:00", "00:30", "01:30", "02:00", "02:30", "03:00", "23:59"])
def test_each_day_of_two_years_has_one_slot(zone: ZoneInfo, wall: str) -> None:
    begin = datetime(2027, 1, 1, tzinfo=zone)
    slots = Timetable(wall, zone).between(begin.timestamp() - 1, (begin + timedelta(days=731)).timestamp() - 1)
    assert [slot.day for slot in slots] == [date(2027, 1, 1) + timedelta(days=number) for number in range(731)]
    assert all(first.at < second.at for first, second in pairwise(slots))


def test_until_and_late_after_are_the_next_such_times() -> None:
    evening = Timetable("23:00", BERLIN, until=time(6, 30), late_after=time(23, 30))
    slot = evening.slot_of(date(2026, 11, 29))
    assert slot is not None
    assert shown(evening.closes_at(slot)) == "11-30 06:30 CET"
    assert shown(evening.late_at(slot)) == "11-29 23:30 CET"
    all_day = Timetable("02:15", BERLIN, until=time(2, 15))
    slot = all_day.slot_of(date(2026, 11, 29))
    assert slot is not None
    assert shown(all_day.closes_at(slot)) == "11-30 02:15 CET"
    assert all_day.late_at(slot) is None
    skipped = Timetable("01:00", BERLIN, until=time(2, 30))
    slot = skipped.slot_of(date(2027, 3, 28))
    assert slot is not None
    assert shown(skipped.closes_at(slot)) == "03-28 03:00 CEST"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("24:00", "time of day"),
        ("2", "time of day"),
        ("", "time of day"),
        ("every night", "time of day"),
        ("0 2 * *", "time of day"),
        ("0 0 2 * * *", "time of day"),
        ("@daily", "time of day"),
        ("*/15 2 * * *", "one minute and one hour"),
        ("0 2,3 * * *", "one minute and one hour"),
        ("0 * * * *", "one minute and one hour"),
        ("61 2 * * *", "bad minute"),
        ("0 2 * * xyz", "bad day-of-week"),
        ("0 2 31 2 *", "bad day-of-month"),
    ],
)
def test_what_is_no_time(given: str, message: str) -> None:
    with pytest.raises(NotATime, match=message):
        Timetable(given, ZoneInfo("UTC"))


@pytest.mark.parametrize("given", ["7", "7.30", "07:60", "25:00", "-1:00", "07:30:00", "٠٧:٣٠"])
def test_what_is_no_wall_time(given: str) -> None:
    assert wall_time(" 7:05 ") == time(7, 5)
    with pytest.raises(NotATime, match=r"such as 06:30"):
        wall_time(given)


def test_a_time_of_day_needs_no_zone_of_the_machine() -> None:
    assert (
        Timetable("02:15", ZoneInfo("UTC")).latest(datetime(2026, 11, 29, 2, 15, tzinfo=UTC).timestamp()) is not None
    )
