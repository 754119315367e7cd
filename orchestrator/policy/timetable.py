"""The slots of a schedule: at which times a night is due, and until when it may send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["NotATime", "Slot", "Timetable", "wall_time"]

_WALL_TIME = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
# A slot of the 29th of February may be eight years away.
_SEARCHED_DAYS = (2, 8, 370, 9 * 366)


class NotATime(ValueError):
    """What is given as a time or a cron expression is none."""


@fast_dataclass(kw_only=False)
class Slot:
    """One night of a schedule: the day for which it stands, and when it is due, in Unix seconds."""

    day: date
    at: float


class Timetable:
    """When a job is due, on the clocks of one zone.

    ``at`` is a time of day, or a cron expression of five fields with one time on each of its days. A time that a
    clock change skips is moved to the end of the gap; one that it repeats counts once, the first time.
    """

    def __init__(self, at: str, zone: ZoneInfo, *, until: time | None = None, late_after: time | None = None) -> None:
        """Raises ``NotATime``."""
        self.expression = _expression(at)
        self.zone = zone
        self._until = until
        self._late_after = late_after
        if next(self._from(datetime(2026, 1, 1, tzinfo=zone)), None) is None:
            raise NotATime("matches no day")

    def after(self, now: float) -> Iterator[Slot]:
        """The slots after a time, the earliest first."""
        # The clock may have been changed shortly before.
        begin = datetime.fromtimestamp(now, self.zone) - timedelta(hours=3)
        return (slot for slot in self._from(begin) if slot.at > now)

    def latest(self, now: float) -> Slot | None:
        """The latest slot that is not in the future."""
        for days in _SEARCHED_DAYS:
            if past := self.between(now - days * 86_400, now):
                return past[-1]
        return None

    def between(self, after: float, now: float) -> list[Slot]:
        """The slots after one time up to another."""
        found: list[Slot] = []
        for slot in self.after(after):
            if slot.at > now:
                break
            found.append(slot)
        return found

    def slot_of(self, day: date) -> Slot | None:
        """The slot of a day, if it has one."""
        midnight = datetime.combine(day, time(), self.zone)
        slot = next(self._from(midnight - timedelta(seconds=1)), None)
        return slot if slot is not None and slot.day == day else None

    def closes_at(self, slot: Slot) -> float | None:
        """When nothing new may be sent any more; None if there is no such time."""
        return None if self._until is None else self._first(self._until, slot)

    def late_at(self, slot: Slot) -> float | None:
        """When a night that is not finished is late."""
        return None if self._late_after is None else self._first(self._late_after, slot)

    def _from(self, begin: datetime) -> Iterator[Slot]:
        for due in CronSim(self.expression, begin):
            yield Slot(due.date(), due.timestamp())

    def _first(self, wall: time, slot: Slot) -> float:
        """The first time after a slot at which the clocks show a time."""
        for days in range(3):
            at = _instant(datetime.combine(slot.day + timedelta(days=days), wall, self.zone))
            if at > slot.at:
                return at
        raise AssertionError("every time of day comes within two days")


def wall_time(text: str) -> time:
    """``06:30`` as a time; raises ``NotATime``."""
    found = _WALL_TIME.fullmatch(text.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise NotATime("must be a time of day such as 06:30")
    return time(int(found[1]), int(found[2]))


def _instant(shown: datetime) -> float:
    """When the clocks show a time; if they skip it, the end of the gap."""
    while shown.astimezone(UTC).astimezone(shown.tzinfo) != shown:
        shown += timedelta(minutes=1)
    return shown.timestamp()


def _expression(at: str) -> str:
    if _WALL_TIME.fullmatch(at.strip()):
        wall = wall_time(at)
        return f"{wall.minute} {wall.hour} * * *"
    fields = at.split()
    if len(fields) != 5:
        raise NotATime('must be a time of day such as 02:15, or five fields of cron such as "15 2 * * mon-sat"')
    if not (fields[0].isdigit() and fields[1].isdigit()):
        raise NotATime("must name one minute and one hour: a job has at most one night a day, named by its date")
    try:
        CronSim(at, datetime(2026, 1, 1))  # noqa: DTZ001 – only parsed
    except CronSimError as error:
        raise NotATime(f"is no cron expression: {str(error).lower()}") from None
    return " ".join(fields)
