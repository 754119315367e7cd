"""Values that only the type checker protects from changes."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import field, replace

import pytest

from orchestrator.core.fast_dataclass import fast_dataclass
from tests.structure.sources import modules


@fast_dataclass
class Point:
    """A place."""

    across: int
    down: int = 0


def move(point: Point) -> None:
    # mypy reports an unused ignore, so this line proves that it treats the class as frozen.
    point.across = 1  # type: ignore[misc]


def test_fields_are_keyword_only() -> None:
    assert Point(across=1) == Point(across=1, down=0) != Point(across=1, down=1)
    with pytest.raises(TypeError):
        Point(1, 2)  # type: ignore[call-arg]


def test_other_fields_cannot_be_added() -> None:
    with pytest.raises(AttributeError):
        Point(across=1).up = 2  # type: ignore[attr-defined]


def test_a_value_is_mutable_at_run_time_and_its_hash_follows_its_fields() -> None:
    point = Point(across=5)
    points = {point}
    move(point)
    assert point.across == 1
    assert hash(point) == hash(Point(across=1))
    assert point not in points


@fast_dataclass(kw_only=False)
class Labelled:
    """A place that knows where it came from."""

    across: int
    source: str = field(default="", compare=False, repr=False)

    def __repr__(self) -> str:
        return f"<{self.across}>"


@fast_dataclass
class Nothing:
    """A value without fields."""


def test_only_values_of_one_class_are_equal() -> None:
    assert Labelled(1, "a") == Labelled(1, "b")
    assert hash(Labelled(1, "a")) == hash(Labelled(1, "b"))
    assert Labelled(1) != Point(across=1)  # type: ignore[comparison-overlap]
    assert Nothing() == Nothing()
    assert {Nothing(), Nothing()} == {Nothing()}


def test_values_print_as_they_are_written() -> None:
    assert repr(Point(across=1)) == "Point(across=1, down=0)"
    assert repr(Labelled(1, "a")) == "<1>"
    assert repr(Nothing()) == "Nothing()"


def test_values_are_copied_and_pickled_with_their_fields() -> None:
    point = Point(across=1)
    assert pickle.loads(pickle.dumps(point)) == point  # noqa: S301
    assert copy.copy(point) == point
    assert replace(point, down=1) == Point(across=1, down=1)


def test_the_package_makes_its_values_this_way() -> None:
    # Compiling the six methods of a frozen dataclass takes half a millisecond at each start.
    compiled = re.compile(r"^ *@dataclass\(frozen=True, slots=True(, kw_only=True)?\)$", re.MULTILINE)
    assert [module.path for module in modules() if compiled.search(module.text)] == []
