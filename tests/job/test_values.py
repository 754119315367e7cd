from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestrator.core.money import parse_usd
from orchestrator.job.documents.values import Duration, FileSize, Usd, parse_duration

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
numbers = st.decimals(min_value=0, max_value=10_000, places=3).map(lambda number: format(number, "f"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("250ms", 0.25),
        (" 5s ", 5),
        ("0s", 0),
        (5, 5),
        (0.5, 0.5),
        (Decimal("0.5"), 0.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "5", "-5s", "5 parsecs", "1e3s", "５s", "5s!", "h1", "5.s", -1, math.inf, math.nan, True, None, []],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 90s"):
        parse_duration(text)


@given(st.lists(st.tuples(numbers, st.sampled_from(sorted(UNITS))), min_size=1, max_size=4))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[str, str]]) -> None:
    text = "".join(number + unit for number, unit in parts)
    assert parse_duration(text) == pytest.approx(sum(float(number) * UNITS[unit] for number, unit in parts))


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0
    assert math.isfinite(seconds)


def test_durations_survive_a_round_trip_through_json() -> None:
    adapter: TypeAdapter[float] = TypeAdapter(Duration)
    assert adapter.validate_json(adapter.dump_json(adapter.validate_python("15m"))) == 900


@pytest.mark.parametrize(
    ("written", "picodollars"),
    [
        (5, 5 * 10**12),
        ("5.00", 5 * 10**12),
        (0.1, 10**11),
        (Decimal("0.000000000001"), 1),
        ("123456.789012345678", 123456789012345678),
        (0, 0),
    ],
)
def test_amounts_are_exact(written: object, picodollars: int) -> None:
    adapter: TypeAdapter[Decimal] = TypeAdapter(Usd)
    assert parse_usd(adapter.validate_python(written)) == picodollars
    assert adapter.validate_json(adapter.dump_json(adapter.validate_python(written))) == Decimal(str(written))


@pytest.mark.parametrize("written", ["$5", "five", "1e-13", True, None, [], -1, 1_000_001, math.nan, math.inf, "nan"])
def test_what_is_no_amount_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Usd).validate_python(written)


@pytest.mark.parametrize(
    ("text", "size"),
    [("190MB", 190_000_000), ("1.5 GB", 1_500_000_000), ("500kB", 500_000), ("7b", 7), (12, 12), ("0.0000019MB", 1)],
)
def test_sizes_of_files(text: object, size: int) -> None:
    assert TypeAdapter(FileSize).validate_python(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 TB", "1MiB", "1e3MB", -1, True, 1.5, None, "9" * 400 + "B"])
def test_what_is_no_size_of_a_file(text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FileSize).validate_python(text)
