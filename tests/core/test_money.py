"""Amounts survive the way from text to picodollars and back, and nothing is rounded silently."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.money import MOST_PICODOLLARS, format_usd, parse_usd


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("5", 5_000_000_000_000),
        ("5.00", 5_000_000_000_000),
        (5, 5_000_000_000_000),
        (Decimal("0.05"), 50_000_000_000),
        ("0.000000000001", 1),
        ("1e-12", 1),
        ("-0.5", -500_000_000_000),
        ("1E+3", 1_000_000_000_000_000),
        ("0", 0),
        ("-0", 0),
        ("0e-99", 0),
        ("9223372.036854775807", MOST_PICODOLLARS),
        # Thirty digits, which Decimal's own arithmetic would round.
        ("0.123456789012000000000000000000", 123_456_789_012),
    ],
)
def test_dollars_are_read_exactly(text: str | int | Decimal, amount: int) -> None:
    assert parse_usd(text) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (-500_000_000_000, "-0.5"),
        (1_234_567_000_000, "1.234567"),
        (5_000_000_000_000, "5"),
        (-1, "-0.000000000001"),
    ],
)
def test_dollars_are_written_plainly(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@pytest.mark.parametrize("text", ["", "five", "$5", "nan", "sNaN", "inf", "-Infinity", "1,5", "0x10"])
def test_a_text_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount of dollars$"):
        parse_usd(text)


@pytest.mark.parametrize(
    "text",
    [
        "0.0000000000001",
        "1.0000000000000000000000000000000001",
        "1e-999999",
        Decimal(float("0.1")),  # a float has 55 digits
    ],
)
def test_an_amount_that_is_too_fine_is_refused_instead_of_rounded(text: str | Decimal) -> None:
    with pytest.raises(ValueError, match="exact to 1e-12"):
        parse_usd(text)


@pytest.mark.parametrize("text", ["9223372.036854775808", "-9223372.036854775808", "1e13", "1e999999", 10**40])
def test_an_amount_too_large_for_the_database_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="more dollars than can be counted"):
        parse_usd(text)


@given(st.integers(-MOST_PICODOLLARS, MOST_PICODOLLARS))
def test_a_written_amount_is_read_back_unchanged(amount: int) -> None:
    assert parse_usd(format_usd(amount)) == amount


@given(st.text())
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    try:
        amount = parse_usd(text)
    except ValueError:
        return
    assert Decimal(text) * 10**12 == amount
