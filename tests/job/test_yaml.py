from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.job.documents.yaml import NotYaml, parse_scalar, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),
        ("2026-11-21", "2026-11-21"),
        ("012", 12),
        ("0x1f", 31),
        ("0o17", 15),
        ("-5", -5),
        ("+5", 5),
        ("0ff", "0ff"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1e3", Decimal(1000)),
        ("5.00", Decimal("5.00")),
        ("0.30000000000000000001", Decimal("0.30000000000000000001")),
        ("-.inf", -math.inf),
        ("gpt-5", "gpt-5"),
        ("=", "="),
        ("a: b", "a: b"),
        ("{{ text }}", "{{ text }}"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_scalar(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_number_in_quotes_is_text() -> None:
    assert parse_yaml("a: '5'\nb: \"no\"").data == {"a": "5", "b": "no"}


def test_lines_of_fields_and_of_list_items() -> None:
    parsed = parse_yaml("a: 1\nb:\n  c: |\n    x\n    y\n  d:\n    - 1\n    - e: 2\n")
    assert parsed.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "d"): 6,
        ("b", "d", 0): 7,
        ("b", "d", 1): 8,
        ("b", "d", 1, "e"): 8,
    }


def test_anchors_are_followed() -> None:
    assert parse_yaml("a: &x {k: 1}\nb: *x\n").data == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "is given twice; the first is in line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "is given twice; the first is in line 2"),
        ("a: !secret x\n", 1, "the tag !secret is not allowed here"),
        ("a: !!set {x, y}\n", 1, "the tag tag:yaml.org,2002:set is not allowed here"),
        ("b: &x {k: 1}\na:\n  <<: *x\n", 3, "the merge key << is not part of YAML 1.2"),
        ("1: a\n", 1, "a field name must be text"),
        ("a: {{ text }}\n", 1, "a field name must be text"),
        ("a: &x [*x]\n", 1, "refers to itself"),
    ],
)
def test_problems_beyond_the_syntax(text: str, line: int, message: str) -> None:
    [problem] = parse_yaml(text).problems
    assert (problem.line, problem.message) == (line, message)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a: b: c", 1, "text that holds a colon and a space must be in quotes"),
        ("a:\n\t- x", 2, "indent with spaces, not with tabs"),
        ("x: {% if y %}", 1, "a template needs quotes, or a block that starts with |"),
        ("a: 1\n---\nb: 2\n", 2, "one file holds one document; remove the line ---"),
        ("a: [1\n", 2, "a bracket was opened in line 1: is it closed?"),
        ("a: *nope", 1, None),
        ("%YAML 1.1\n---\na: no\n", 1, "remove the %YAML line"),
        ("a: x\x00", 1, None),
    ],
)
def test_wrong_syntax_is_reported_with_its_line(text: str, line: int, hint: str | None) -> None:
    with pytest.raises(NotYaml) as caught:
        parse_yaml(text)
    assert (caught.value.line, caught.value.hint) == (line, hint)


def test_a_syntax_error_repeats_nothing_of_the_text() -> None:
    with pytest.raises(NotYaml) as caught:
        parse_yaml('a: "x" CANARY\n')
    assert "CANARY" not in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse_yaml(text)
    except NotYaml:
        return
    assert all(line >= 1 for line in parsed.lines.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2),
        ("a: 1\nb: " + "[" * 500 + "]" * 500, 2),
        ("a: 1\nb: " + "{c: " * 500 + "1" + "}" * 500, 2),
        ("".join(f"{'  ' * depth}a:\n" for depth in range(300)), 100),
        ("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)), 1),
        ("a: 1\nb: \x01\n", 2),
    ],
    ids=["escape", "lists", "mappings", "block", "aliases", "control"],
)  # fmt: skip
def test_what_cannot_be_read_at_all_has_its_line(text: str, line: int) -> None:
    with pytest.raises(NotYaml) as caught:
        parse_yaml(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        "1e99999999999999999999", "-1e-99999999999999999999", "1e999999", "9" * 500, "0x" + "f" * 500, '"a\\0b"',
        '"\\uD83D"', '"\\uDE00\\uD83D"',
    ],
)  # fmt: skip
def test_a_value_that_nothing_can_hold_is_a_problem_of_its_field(text: str) -> None:
    [problem] = parse_yaml(f"a: 1\nb: {text}\n").problems
    assert problem.field == ("b",)


def test_two_halves_of_a_character_are_one() -> None:
    assert parse_yaml('a: "\\uD83D\\uDE00"').data == {"a": "😀"}
