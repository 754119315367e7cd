"""Values that the type checker keeps from being changed."""

from __future__ import annotations

import pytest

from orchestrator.core.fast_dataclass import fast_dataclass


@fast_dataclass
class Point:
    """Somewhere."""

    across: int
    down: int = 0


def move(point: Point) -> None:
    # An ignore that nothing needs is an error of the type checker's: so this line shows that it sees a frozen class.
    point.across = 1  # type: ignore[misc]


def test_fields_are_given_by_name() -> None:
    assert Point(across=1) == Point(across=1, down=0) != Point(across=1, down=1)
    with pytest.raises(TypeError):
        Point(1, 2)  # type: ignore[call-arg]


def test_there_are_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Point(across=1).up = 2  # type: ignore[attr-defined]
