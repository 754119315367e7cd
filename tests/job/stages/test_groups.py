"""What a group makes when its rows are settled, with each outcome that has no request."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from orchestrator.job.stages.expansion import SettledRow
from orchestrator.job.stages.groups import Ask, Drop, FailGroup, Group, Split, complete
from orchestrator.policy.pricing.tokens import token_counter

from .builders import a_pipeline, a_request

ONE = {"from": "input", "request": a_request("{{ text }}")}
MERGE = {"input": "M{% for row in rows %} {{ row.two }}{% endfor %}"}


def a_group(rows: int, *, failed: int = 0, level: int = 0, lost: int = 0, size: int = 1) -> Group:
    members = [
        SettledRow(f"r{number}", {"text": "t"}, None if number < failed else "word " * size) for number in range(rows)
    ]
    return Group(stage="two", key="g", row={"kind": "k"}, members=members, level=level, lost=lost)


def outcome(group: Group, **section: Any) -> Any:
    two = {
        "from": "one",
        "group_by": "kind",
        "request": a_request("{{ kind }}{% for row in rows %} {{ row.one }}{% endfor %}"),
        **section,
    }
    return complete(a_pipeline({"one": ONE, "two": two}), group)


def test_the_rows_of_a_group_hold_what_its_template_reads() -> None:
    assert outcome(a_group(2)) == Ask({"kind": "k", "rows": [{"one": "word "}, {"one": "word "}], "missing": 0}, 0)


def test_one_row_is_a_group() -> None:
    assert len(outcome(a_group(1)).row["rows"]) == 1


@pytest.mark.parametrize(
    ("missing", "rows", "failed", "asked"),
    [
        ("fail", 4, 0, True),
        ("fail", 4, 1, False),
        ("any", 4, 3, True),
        ("any", 4, 4, False),
        ({"at_most": "25%"}, 4, 1, True),
        ({"at_most": "24%"}, 4, 1, False),
        ({"at_most": "0%"}, 4, 0, True),
    ],
)
def test_how_many_rows_a_group_may_lack(missing: Any, rows: int, failed: int, asked: bool) -> None:
    got = outcome(a_group(rows, failed=failed), missing=missing)
    if asked:
        assert (got.missing, len(got.row["rows"]), got.row["missing"]) == (failed, rows - failed, failed)
    else:
        assert isinstance(got, FailGroup)
        assert got.code == "group_incomplete"


def test_rows_whose_group_is_not_known_count_for_every_group() -> None:
    assert isinstance(outcome(a_group(4, lost=1)), FailGroup)
    assert isinstance(outcome(a_group(4, lost=1), missing={"at_most": "20%"}), Ask)


def test_a_group_of_which_where_leaves_nothing_is_dropped() -> None:
    assert outcome(a_group(3), where="{{ one == 'x' }}") == Drop()
    assert outcome(a_group(0)) == Drop()


def test_where_that_fails_for_a_row_fails_the_group() -> None:
    got = outcome(a_group(3), where="{{ one.absent.more }}")
    assert (got.code, "word" in got.message) == ("stage_failed", False)


def test_a_large_group_is_asked_in_parts() -> None:
    got = outcome(a_group(200), max_input_tokens=300, merge=MERGE)
    assert isinstance(got, Split)
    assert [key for key, _ in got.rows] == [f"g/0.{number}" for number in range(len(got.rows))]
    assert sum(len(row["rows"]) for _, row in got.rows) == 200
    assert not any("merges_parts" in row for _, row in got.rows)


def test_the_answers_of_parts_are_merged() -> None:
    got = outcome(a_group(3, level=1), max_input_tokens=300, merge=MERGE)
    assert isinstance(got, Ask)
    assert got.row["merges_parts"] is True
    assert got.row["rows"] == [{"two": "word "}] * 3


def test_an_oversized_row_fails_its_group_with_advice() -> None:
    got = outcome(a_group(2, size=2_000), max_input_tokens=300, merge=MERGE)
    assert got.code == "row_too_large"
    assert "expand" in got.message


@pytest.mark.parametrize("rows", [1, 2, 3, 100, 20_000])
def test_a_tree_ends_whatever_the_answers_are(rows: int) -> None:
    level, group = 0, a_group(rows)
    while isinstance(got := outcome(group, max_input_tokens=400, merge=MERGE), Split):
        assert len(got.rows) < max(2, len(group.members))
        level += 1
        members = [SettledRow(key, {}, "word " * 180) for key, _ in got.rows]
        group = Group(stage="two", key="g", row={"kind": "k"}, members=members, level=level)
        assert level <= 16
    assert isinstance(got, Ask)


def test_a_tree_over_twenty_thousand_rows_ends_and_no_request_exceeds_the_limit() -> None:
    limit, sizes, asked = 400, random.Random(3), 0
    level: list[SettledRow] = [
        SettledRow(f"r{number}", {"text": "t"}, "word " * sizes.randint(1, 40)) for number in range(20_000)
    ]
    for depth in range(20):
        got = outcome(
            Group(stage="two", key="g", row={"kind": "k"}, members=level, level=depth),
            max_input_tokens=limit,
            merge=MERGE,
        )
        parts = [("g", got.row)] if isinstance(got, Ask) else got.rows
        assert sum(len(row["rows"]) for _, row in parts) == len(level)
        for _, row in parts:
            counts = token_counter().count_all([orjson.dumps(each).decode() for each in row["rows"]])
            assert sum(counts) <= limit
        asked += len(parts)
        if isinstance(got, Ask):
            break
        # The longest answers that the request allows.
        level = [SettledRow(key, {}, "word " * 100) for key, _ in parts]
    assert isinstance(got, Ask)
    assert len(level) > 1
    assert asked > 20_000 / 40
