"""The instrument itself: growth is seen, and what goes up and down is not taken for it."""

from __future__ import annotations

import math

import pytest

from .soak import MEASURES, grown

STEADY = {"memory_mb": 80.0, "files": 40.0, "threads": 5.0, "tasks": 30.0}


def samples(**a_minute: float) -> list[dict[str, float]]:
    """Half an hour of a process at work, with so much more of something each minute."""
    return [
        {
            name: value * (1 + 0.2 * math.sin(second)) + a_minute.get(name, 0) * second / 60
            for name, value in STEADY.items()
        }
        for second in range(1800)
    ]


def test_what_goes_up_and_down_has_not_grown() -> None:
    assert grown(samples()) == []


@pytest.mark.parametrize(("name", "a_minute"), {"memory_mb": 1.5, "files": 1, "threads": 0.2, "tasks": 8}.items())
def test_what_leaks_is_named(name: str, a_minute: float) -> None:
    [found] = grown(samples(**{name: a_minute}))
    assert found.startswith(f"{name} grew from ")


def test_everything_that_is_measured_is_tested() -> None:
    assert {measure.name for measure in MEASURES} == STEADY.keys()
