"""The schedule section of a job: when ``run --due`` runs it."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from orchestrator.core.section import Section
from orchestrator.policy.timetable import Timetable, wall_time

__all__ = ["Schedule"]


class Schedule(Section):
    """When the job is due. Nothing wakes up by itself: cron, systemd or the like call `run --due` now and then."""

    at: str = Field(examples=["02:15", "15 2 * * mon-sat"])
    """A time of day, or a cron expression with one time on each of its days."""
    zone: str = Field(examples=["Europe/Berlin", "UTC"])
    """The time zone of all times here, and of `run.date`."""
    until: str | None = Field(default=None, examples=["06:30"])
    """The time of day after which nothing new is sent; the rest waits for the next night."""
    late_after: str | None = Field(default=None, examples=["07:00"])
    """If the night is not finished at this time of day, receivers of `late` are notified."""
    catch_up: Literal["latest", "all", "none"] = "latest"
    """What to do about nights that no one called for in time: run the `latest`, run `all` of them, the oldest first,
    or `none`: a night that is not begun within an hour is left out."""

    @field_validator("at")
    @classmethod
    def _comes(cls, at: str) -> str:
        Timetable(at, ZoneInfo("UTC"))
        return at

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError):
            raise ValueError("is no time zone that this machine knows, such as Europe/Berlin") from None
        return zone

    @field_validator("until", "late_after")
    @classmethod
    def _is_a_time_of_day(cls, given: str | None) -> str | None:
        return None if given is None else wall_time(given).strftime("%H:%M")

    @property
    def timetable(self) -> Timetable:
        """The slots of the schedule."""
        until, late_after = (None if each is None else wall_time(each) for each in (self.until, self.late_after))
        return Timetable(self.at, ZoneInfo(self.zone), until=until, late_after=late_after)
