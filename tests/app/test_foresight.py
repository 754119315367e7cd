"""What stages would ask while their answers are not known: ranges that hold what any answers would make."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.app.forecast.foresight import Expected, Foreseen, Foresight
from orchestrator.app.forecast.stand_ins import stand_in_text
from orchestrator.app.forecast.trees import tree_of
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.policy.pricing.tokens import token_counter

REQUEST = {"model": "gpt-5-mini", "max_output_tokens": 50}


def foresee(stages: dict[str, Any], *rows: dict[str, Any], answer: Expected) -> dict[str, list[Foreseen]]:
    """Everything that is foreseen, if nothing but ``answer`` is known of any answer."""
    job = Job.model_validate({"name": "job", "input": {"path": "rows.jsonl"}, "stages": stages})
    pipeline = Pipeline(job)
    foresight, found = Foresight(pipeline, token_counter()), dict[str, list[Foreseen]]()
    for number, row in enumerate(rows):
        foresight.of_input(f"r{number}", row, f"rows.jsonl:{number + 1}")
    for plan in pipeline.requesting:
        foresight.close(plan.name)
        while taken := foresight.take(plan.name):
            found.setdefault(plan.name, []).extend(taken)
            for each in taken:
                foresight.settle(each, answer)
    return found


def numbers(foreseen: list[Foreseen]) -> tuple[int, int]:
    return sum(each.least for each in foreseen), sum(each.most for each in foreseen)


def asking(text: str = "{{ text }}") -> dict[str, Any]:
    return {**REQUEST, "input": text}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({}, (2, 2)),
        ({"where": "{{ size > 1 }}"}, (1, 1)),
        ({"where": "{{ first > 1 }}"}, (0, 2)),
        ({"expand": {"list": "{{ items }}"}}, (3, 3)),
        ({"expand": {"list": "{{ first }}", "at_most": 7}}, (0, 14)),
        ({"expand": {"text": "{{ first }}", "max_tokens": 20}}, (2, 6)),
        ({"group_by": "size"}, (2, 2)),
        ({"group_by": []}, (1, 1)),
        ({"group_by": "first"}, (1, 2)),
        ({"group_by": [], "where": "{{ first > 1 }}"}, (0, 1)),
    ],
)
def test_the_rows_of_a_second_stage_are_a_range(second: dict[str, Any], expected: tuple[int, int]) -> None:
    stages = {
        "first": {"from": "input", "request": asking()},
        "second": {
            "from": "first",
            **second,
            "request": asking("{{ text }}{% for row in rows %}{{ row.first }}{% endfor %}"),
        },
    }
    rows = [{"text": "one", "size": 1, "items": [1]}, {"text": "two", "size": 2, "items": [1, 2]}]
    found = foresee(stages, *rows, answer=Expected(most_tokens=50))
    assert numbers(found["first"]) == (2, 2)
    assert numbers(found["second"]) == expected


def test_a_group_by_parent_waits_for_all_that_one_answer_may_become() -> None:
    stages = {
        "first": {"from": "input", "request": asking()},
        "names": {"from": "first", "expand": {"list": "{{ first }}", "at_most": 4}, "request": asking("{{ item }}")},
        "all": {
            "from": "names",
            "group_by": "parent",
            "request": asking("{% for row in rows %}{{ row.names }}{% endfor %}"),
        },
    }
    found = foresee(stages, {"text": "one"}, answer=Expected(most_tokens=50))
    assert numbers(found["names"]) == (0, 4)
    assert numbers(found["all"]) == (0, 1)
    assert found["all"][0].tokens.most is not None
    assert found["all"][0].tokens.most >= 4 * 50


def test_known_answers_make_the_rows_that_a_run_makes() -> None:
    stages = {
        "first": {"from": "input", "request": asking()},
        "second": {"from": "first", "where": "{{ first == 'yes' }}", "request": asking("{{ first }}")},
    }
    assert "second" not in foresee(stages, {"text": "one"}, answer=Expected(text="no"))
    [made] = foresee(stages, {"text": "one"}, answer=Expected(text="yes"))["second"]
    assert (made.row, made.is_exact) == ({"first": "yes"}, True)
    assert "second" not in foresee(stages, {"text": "one"}, answer=Expected(failed=True))


def test_a_stand_in_has_every_field_of_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "place": {"$ref": "#/$defs/place"},
            "year": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "itself": {"$ref": "#"},
        },
        "$defs": {"place": {"type": ["object", "null"], "properties": {"of": {"type": "array"}}}},
    }
    found = json.loads(stand_in_text(schema))
    assert {name: found[name] for name in ("name", "kind", "place", "year")} == {
        "name": "",
        "kind": "a",
        "place": {"of": []},
        "year": 0,
    }
    assert stand_in_text(None) == ""


def test_a_tree_is_counted_level_by_level() -> None:
    alone = tree_of([10, 10], [10, 10], limit=100, answer_tokens=20)
    assert (alone.least, alone.most_parts, alone.last_tokens) == (1, 0, (20, 20))
    # Ten rows of 60 are ten parts; five answers of 20 fit into a hundred: 10 + 2 parts, and the last one.
    deep = tree_of([60] * 10, [60] * 10, limit=100, answer_tokens=20)
    assert (deep.least_parts, deep.most_parts) == (10, 12)
    assert tree_of([], [None], limit=None, answer_tokens=None).last_tokens == (0, None)
