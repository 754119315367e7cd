"""The measurement of the soak itself: it detects growth, and does not mistake variation for growth."""

from __future__ import annotations

import math

import pytest

from .soak import MEASURES, grown

STEADY = {"memory_mb": 80.0, "files": 40.0, "threads": 5.0, "tasks": 30.0}


def samples(**a_minute: float) -> list[dict[str, float]]:
    """Half an hour of samples of a busy process; ``a_minute`` is how much each measure grows per minute."""
    return [
        {
            name: value * (1 + 0.2 * math.sin(second)) + a_minute.get(name, 0) * second / 60
            for name, value in STEADY.items()
        }
        for second in range(1800)
    ]


def test_variation_is_not_growth() -> None:
    assert grown(samples()) == []


@pytest.mark.parametrize(("name", "a_minute"), {"memory_mb": 1.5, "files": 1, "threads": 0.2, "tasks": 8}.items())
def test_a_leak_is_named(name: str, a_minute: float) -> None:
    [found] = grown(samples(**{name: a_minute}))
    assert found.startswith(f"{name} grew from ")


def test_every_measure_is_tested() -> None:
    assert {measure.name for measure in MEASURES} == STEADY.keys()
