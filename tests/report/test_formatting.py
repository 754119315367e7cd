"""Numbers are readable at every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (41.2, "41 s"),
        (59.7, "1 min"),
        (725, "12 min 5 s"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1, "under $0.000001"),
        (12_000_000, "$0.000012"),
        (1_200_000_000_000, "$1.20"),
        (1_234_567_499_999, "$1.234567"),
        (1_234_567_500_000, "$1.234568"),
        (1_234_000_000_000_000, "$1,234.00"),
        (-500_000_000_000, "-$0.50"),
    ],
)
def test_dollars(amount: int, text: str) -> None:
    assert formatting.dollars(amount) == text


@given(st.integers(min_value=1, max_value=10**18))
def test_money_that_was_spent_is_never_shown_as_zero(amount: int) -> None:
    assert formatting.dollars(amount) != "$0.00"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23 k"), (45_600, "45.6 k"), (1_234_567, "1.23 M"), (345_000_000, "345 M")],
)
def test_short_counts(number: int, text: str) -> None:
    assert formatting.short_count(number) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(306.4, "306 rows/s"), (84.04, "84.0 rows/s"), (0.2, "12.0 rows/min"), (0.001, "3.6 rows/h")],
)
def test_rates(per_second: float, text: str) -> None:
    assert formatting.rate(per_second) == text


def test_times_are_in_utc() -> None:
    assert formatting.stamp(1_795_291_203.9) == "2026-11-21T20:00:03Z"
    assert formatting.stamp(None) is None
    assert formatting.date_time(1_795_291_203.9) == "2026-11-21 20:00:03"
