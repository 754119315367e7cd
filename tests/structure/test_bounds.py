"""The bounds that the package keeps; ``python -m tests.structure -v`` lists the places that break one."""

from __future__ import annotations

from tests.structure.file_names import purposes_missing, purposes_unused
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


def test_functions_are_short() -> None:
    lengths = function_lengths()
    assert median_length(lengths) <= 6
    assert percentile_90(lengths) <= 18


def test_functions_take_few_parameters() -> None:
    assert [place for count, place in most_parameters() if count > 7] == []


def test_imports_have_no_cycle() -> None:
    assert cycles(import_graph()) == []


def test_a_public_class_name_is_defined_once() -> None:
    assert duplicate_classes() == {}


def test_files_that_share_a_name_share_a_purpose() -> None:
    assert purposes_missing() == []


def test_every_stated_purpose_belongs_to_files() -> None:
    assert purposes_unused() == []


def test_public_names_are_documented() -> None:
    assert docstring_share() >= 0.95, undocumented()


def test_there_is_nearly_a_line_of_test_for_each_line_of_source() -> None:
    # Not more, because the same lines test every store, and tests of pages and of commands are short.
    assert lines_of_test_per_line() >= 0.9
