"""A deadline is a duration, or a time of the clock with its zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.job.documents.deadline_value import deadline_at, parse_deadline

# A Tuesday in winter, three in the afternoon UTC.
NOW = datetime(2026, 12, 1, 15, 0, tzinfo=UTC)


def at(deadline: str | float, now: datetime = NOW) -> datetime:
    found = deadline_at(parse_deadline(deadline), now.timestamp())
    assert found is not None
    return datetime.fromtimestamp(found, UTC)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("6h", NOW + timedelta(hours=6)),
        (90, NOW + timedelta(seconds=90)),
        ("06:30 UTC", datetime(2026, 12, 2, 6, 30, tzinfo=UTC)),
        ("6:30Z", datetime(2026, 12, 2, 6, 30, tzinfo=UTC)),
        ("16:30 UTC", datetime(2026, 12, 1, 16, 30, tzinfo=UTC)),
        ("06:30 Europe/Berlin", datetime(2026, 12, 2, 5, 30, tzinfo=UTC)),
        ("15:30 Europe/Berlin", datetime(2026, 12, 2, 14, 30, tzinfo=UTC)),
        ("06:30 +05:30", datetime(2026, 12, 2, 1, 0, tzinfo=UTC)),
        ("06:30-0800", datetime(2026, 12, 2, 14, 30, tzinfo=UTC)),
        ("2026-12-24 06:30 America/Argentina/Buenos_Aires", datetime(2026, 12, 24, 9, 30, tzinfo=UTC)),
        ("2026-12-24T06:30:00Z", datetime(2026, 12, 24, 6, 30, tzinfo=UTC)),
        ("2026-11-01T06:30Z", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_deadline_is_a_time(written: str | float, expected: datetime) -> None:
    assert at(written) == expected


def test_the_next_time_of_the_clock_is_after_the_start() -> None:
    assert at("15:00 UTC") == NOW + timedelta(days=1)


def test_a_change_of_clocks_moves_the_deadline_with_the_clock() -> None:
    before = datetime(2027, 3, 27, 20, 0, tzinfo=UTC)
    assert at("06:30 Europe/Berlin", before) == datetime(2027, 3, 28, 4, 30, tzinfo=UTC)
    left_out = at("02:30 Europe/Berlin", before)
    assert left_out == datetime(2027, 3, 28, 1, 30, tzinfo=UTC)


def test_a_time_without_a_zone_is_that_of_this_machine() -> None:
    today = datetime.fromtimestamp(NOW.timestamp(), UTC).astimezone().replace(tzinfo=None)
    local = today.replace(hour=6, minute=30) + timedelta(days=1)
    assert at("06:30") == local.astimezone(UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        *("25:00", "06:60", "06:30:30", "6.30", "", "soon:", "٠٦:٣٠", "2026-02-30 06:30", "9999-99-99 00:00"),
        *("06:30 Atlantis/Sunken", "06:30 ../etc/passwd", "06:30 America", "06:30 Europe/Berlin extra"),
        *("06:30 +25:00", "06:30 +01:75", True, None, -1, 0, "0s", "101y"),
    ],
)
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"must be|no time zone"):
        parse_deadline(wrong)


def test_no_deadline_is_none() -> None:
    assert deadline_at(None, 0.0) is None
