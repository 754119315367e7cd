"""A deadline as people write it: how long after the start, or a time of the clock with its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, WithJsonSchema

from orchestrator.job.documents.values import DURATION_PATTERN, parse_duration

__all__ = ["DeadlineValue", "deadline_at", "parse_deadline"]

_CLOCK = re.compile(
    r"(?:(?P<date>\d{4}-\d{2}-\d{2})[T ]\s*)?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::00)?"
    r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2}|[A-Za-z][\w+-]*(?:/[\w+-]+)*)?",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
_RULE = (
    'must be a duration such as 90s or 6h, or a time such as "06:30 Europe/Berlin", "06:30 UTC" or '
    '"2026-12-24 06:30 +01:00"; without a zone it is the time of this machine'
)


def parse_deadline(value: object) -> float | str:
    """Seconds after the start, or the time of the clock as it was written; raises ``ValueError`` otherwise."""
    if isinstance(value, str) and ":" in value:
        text = value.strip()
        _at(text, 0.0)
        return text
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(str(error) if "years" in str(error) else _RULE) from None
    if not seconds:
        raise ValueError("must be more than 0")
    return seconds


def deadline_at(deadline: float | str | None, now: float) -> float | None:
    """When a run that starts now must be done (Unix seconds); a time without a date is the next one."""
    if deadline is None or isinstance(deadline, str):
        return None if deadline is None else _at(deadline, now)
    return now + deadline


def _at(text: str, now: float) -> float:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError(_RULE)
    zone, hour, minute = _zone(found["zone"]), int(found["hour"]), int(found["minute"])
    try:
        if found["date"] is not None:
            return _seconds(datetime.fromisoformat(found["date"]), hour, minute, zone)
        today = datetime.fromtimestamp(now, UTC).astimezone(zone)
        return next(
            at for days in range(3) if (at := _seconds(today + timedelta(days=days), hour, minute, zone)) > now
        )
    except (ValueError, OverflowError):
        raise ValueError(_RULE) from None


def _seconds(day: datetime, hour: int, minute: int, zone: tzinfo | None) -> float:
    # A naive time counts as that of this machine. One that the change of clocks leaves out is as much later.
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    if name in ("Z", "UTC"):
        return UTC
    if offset := _OFFSET.fullmatch(name):
        minutes = int(offset[2]) * 60 + int(offset[3])
        if int(offset[3]) < 60 and minutes < 24 * 60:
            return timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
        raise ValueError(_RULE)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # what is no zone, is a folder of zones, or is not installed here
        raise ValueError(f'"{name}" is no time zone; write one such as Europe/Berlin, UTC or +01:00') from None


DeadlineValue: TypeAlias = Annotated[
    float | str,
    BeforeValidator(parse_deadline),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": rf"{DURATION_PATTERN}|^[^:]*\d:\d\d[^:]*(:\d\d)?$",
                    "examples": ["6h", "06:30 Europe/Berlin"],
                },
                {"type": "number", "minimum": 0},
            ]
        }
    ),
]
