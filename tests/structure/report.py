"""What the measures say, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.structure.file_names import purposes_missing
from tests.structure.imports import cycles, import_graph
from tests.structure.measures import (
    docstring_share,
    duplicate_classes,
    function_lengths,
    lines_of_test_per_line,
    median_length,
    most_parameters,
    percentile_90,
    undocumented,
)
from tests.structure.sources import modules
from tests.structure.words import findings

__all__ = ["report"]


def report(*, details: bool) -> Iterator[str]:
    """Each measure on a line; with ``details`` every place that a bound does not allow follows it."""
    lengths = function_lengths()
    spread = f"median {median_length(lengths):g}, 90 % up to {percentile_90(lengths)}, longest {lengths[-1]}"
    yield _line("modules, functions", f"{len(modules())}, {len(lengths)}")
    yield _line("function length", spread)
    yield from _measure("most parameters", _wide(7), details, value=str(most_parameters()[0][0]))
    yield from _measure("import cycles", [" -> ".join(cycle) for cycle in cycles(import_graph())], details)
    yield from _measure("duplicate classes", [f"{name}: {at}" for name, at in duplicate_classes().items()], details)
    yield from _measure("shared file names", [f"{name}: without a purpose" for name in purposes_missing()], details)
    yield from _measure("public docstrings", [*undocumented()], details, value=f"{docstring_share():.1%}")
    yield _line("test to source lines", f"{lines_of_test_per_line():.2f}")
    yield from _measure("old words", [str(each) for each in findings()], details)
    folders = Counter(each.folder for each in findings())
    yield from (f"  {count:5}  {folder}" for folder, count in folders.most_common())


def _wide(bound: int) -> list[str]:
    return [f"{count}: {place}" for count, place in most_parameters() if count > bound]


def _measure(name: str, places: list[str], details: bool, *, value: str | None = None) -> Iterator[str]:
    yield _line(name, value or str(len(places)))
    if details:
        yield from (f"    {place}" for place in places)


def _line(name: str, value: str) -> str:
    return f"{name:<20}  {value}"
