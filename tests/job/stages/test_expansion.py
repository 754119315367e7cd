"""From one row to the rows of later stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.core.errors import BadRow
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Made, Pipeline, SettledRow
from orchestrator.job.stages.planned_rows import new_requests
from orchestrator.job.stages.stage_jobs import renderer_of

from .builders import a_job, a_pipeline, a_request, digest_stages

ROW = {"id": "r", "title": "T", "section": "s", "body": "one two three four five six", "unread": 1}
FORMAT = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "properties": {}}}}


def keys(made: Made) -> list[tuple[str, str]]:
    return [(row.stage, row.key) for row in made.rows]


def test_a_row_is_split_and_its_group_waits_for_the_parts() -> None:
    made = a_pipeline().of_input("r", ROW)
    parts = [row.key for row in made.rows]
    assert len(parts) > 1
    assert parts == [f"r#{number}" for number in range(1, len(parts) + 1)]
    assert {*made.rows[0].row} == {"part", "part_number", "part_count", "section", "title"}
    [group] = made.groups
    assert (group.stage, group.key, group.of, group.members) == ("article", "r", "facts", parts)
    assert group.row == {"section": "s", "title": "T"}


def test_an_empty_text_makes_no_rows_and_no_group() -> None:
    made = a_pipeline().of_input("r", {**ROW, "body": " "})
    assert (made.rows, made.groups, made.grouped) == ([], [], [])


def test_a_settled_row_joins_the_group_of_its_column() -> None:
    made = a_pipeline().of_settled("article", SettledRow("r", {"title": "T", "section": "s"}, "the answer"))
    [member] = made.grouped
    assert (member.stage, member.key, member.row) == ("digest", "s", {"section": "s"})


def test_a_failed_row_joins_its_group_too() -> None:
    made = a_pipeline().of_settled("article", SettledRow("r", {"title": "T", "section": "s"}, None))
    assert [member.key for member in made.grouped] == ["s"]


def checked_stages(**checked: Any) -> dict[str, Any]:
    rows = "{% for row in rows %}{{ row.checked }}{% endfor %}"
    stages = digest_stages(
        checked={"from": "facts", "request": a_request("{{ facts }}"), **checked},
        late={"from": "checked", "group_by": "parent", "request": a_request(rows)},
        by_section={"from": "checked", "group_by": "section", "request": a_request(rows)},
    )
    return {name: stages[name] for name in ("parts", "facts", "checked", "late", "by_section")}


def test_a_row_that_failed_a_stage_earlier_is_missing_in_the_groups_that_it_would_have_come_to() -> None:
    failed = SettledRow("r#2", {"title": "T", "section": "s"}, None)
    made = a_pipeline(checked_stages()).of_settled("facts", failed)
    assert made.rows == []
    assert [(each.stage, each.key) for each in made.grouped] == [("late", "r"), ("by_section", "s")]


def test_rows_that_a_failed_row_was_to_become_have_no_parent_to_be_missing_in() -> None:
    stages = checked_stages(expand={"list": "{{ facts.split() }}"})
    made = a_pipeline(stages).of_settled("facts", SettledRow("r#2", {"section": "s"}, None))
    assert [(each.stage, each.key) for each in made.grouped] == [("by_section", "s")]


def test_a_row_that_no_stage_can_take_is_missing_in_its_own_group_only() -> None:
    pipeline = a_pipeline(checked_stages(where="{{ facts.absent.more }}"))
    [failed] = pipeline.of_settled("facts", SettledRow("r#2", {"section": "s"}, "x")).rows
    [request] = new_requests(pipeline, [failed], position=0, where="here")
    made = pipeline.of_settled("checked", SettledRow("r#2", orjson.loads(request.row), None))
    assert [(each.stage, each.key) for each in made.grouped] == [("late", "r"), ("by_section", "s")]


@pytest.mark.parametrize(
    ("columns", "key"),
    [([], "[]"), ("section", "s"), ("number", "3"), (["section", "number"], '["s",3]')],
)
def test_the_key_of_a_group(columns: Any, key: str) -> None:
    stages = {
        "one": {"from": "input", "request": a_request("{{ section }}{{ number }}")},
        "all": {"from": "one", "group_by": columns, "request": a_request("{{ rows | length }}")},
    }
    made = a_pipeline(stages).of_settled("one", SettledRow("r", {"section": "s", "number": 3}, "x"))
    assert [member.key for member in made.grouped] == [key]


def test_an_answer_is_a_column_of_the_stages_name() -> None:
    stages = {
        "one": {"from": "input", "request": a_request("{{ text }}", text=FORMAT)},
        "two": {"from": "one", "where": "{{ one.good }}", "request": a_request("{{ one.word }} {{ text }}")},
    }
    pipeline = a_pipeline(stages)
    made = pipeline.of_settled("one", SettledRow("r", {"text": "t"}, '{"good": true, "word": "w"}'))
    assert [(row.stage, row.key, row.row) for row in made.rows] == [
        ("two", "r", {"one": {"good": True, "word": "w"}, "text": "t"})
    ]
    assert pipeline.of_settled("one", SettledRow("r", {"text": "t"}, '{"good": false}')).rows == []
    assert pipeline.of_settled("one", SettledRow("r", {"text": "t"}, None)).rows == []


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("{{ n > 2 }}", True),
        ("{{ n > 3 }}", False),
        ("{{ none }}", False),
        ("{{ word }}", True),
        ("no: {{ n }}", True),
    ],
)
def test_where_leaves_rows_out(where: str, kept: bool) -> None:
    stages = {"one": {"from": "input", "where": where, "request": a_request("{{ n }}")}}
    made = a_pipeline(stages).of_input("r", {"n": 3, "none": None, "word": "yes"})
    assert keys(made) == ([("one", "r")] if kept else [])


def test_each_item_of_a_list_is_a_row() -> None:
    stages = {"one": {"from": "input", "expand": {"list": "{{ names }}"}, "request": a_request("{{ item }}")}}
    made = a_pipeline(stages).of_input("r", {"names": ["a", "b"]})
    assert [(row.key, row.row["item"]) for row in made.rows] == [("r#1", "a"), ("r#2", "b")]
    assert a_pipeline(stages).of_input("r", {"names": []}).rows == []


@pytest.mark.parametrize("names", ["text", 3, None, [1, 2, 3, 4]])
def test_a_row_that_cannot_be_expanded_fails_alone(names: Any) -> None:
    stages = {
        "one": {"from": "input", "expand": {"list": "{{ names }}", "at_most": 3}, "request": a_request("{{ item }}")}
    }
    [row] = a_pipeline(stages).of_input("r", {"names": names}).rows
    assert (row.stage, row.key, row.row) == ("one", "r", {})
    assert row.failure is not None
    assert "text" not in row.failure


def test_a_row_of_a_failed_stage_is_refused_with_its_reason() -> None:
    stages = {"one": {"from": "input", "where": "{{ absent }}", "request": a_request("{{ n }}")}}
    job = a_job(stages)
    pipeline = Pipeline(job)
    [request] = new_requests(pipeline, pipeline.of_input("r", {"n": 1}).rows, position=0, where="here")
    with pytest.raises(BadRow, match="stage one") as caught:
        renderer_of(job, "one").render(request.row, where="here")
    assert caught.value.code == "stage_failed"


def test_a_failure_before_a_stage_without_a_request_is_reported_by_the_next_one_that_has_one() -> None:
    stages = {
        "filtered": {"from": "input", "where": "{{ absent }}"},
        "one": {"from": "filtered", "request": a_request("{{ n }}")},
    }
    [row] = a_pipeline(stages).of_input("r", {"n": 1}).rows
    assert (row.stage, row.failure is not None) == ("one", True)


def test_two_stages_may_read_one() -> None:
    stages = {
        "one": {"from": "input", "request": a_request("{{ n }}")},
        "two": {"from": "one", "request": a_request("{{ one }}")},
        "three": {"from": "one", "request": a_request("{{ one }}")},
    }
    made = a_pipeline(stages).of_settled("one", SettledRow("r", {"n": 1}, "x"))
    assert keys(made) == [("two", "r"), ("three", "r")]


MODULE = """
def several(row):
    return [{"n": row["n"] + each} for each in range(2)]

def one(row):
    return {"n": row["n"] * 10}

def none(row):
    return None

def broken(row):
    raise ValueError(row["n"])

def wrong(row):
    return [1]
"""


@pytest.mark.parametrize(
    ("name", "numbers"), [("several", [5, 6]), ("one", [50]), ("none", []), ("broken", None), ("wrong", None)]
)
def test_a_function_makes_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, numbers: list[int] | None
) -> None:
    module = f"row_makers_{name}"
    (tmp_path / f"{module}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    stages = {"one": {"from": "input", "rows": f"{module}:{name}", "request": a_request("{{ n }}")}}
    job = Job.model_validate(
        {"name": "a", "input": {"path": "x.jsonl"}, "stages": stages}, context={"source": tmp_path / "job.yaml"}
    )
    made = Pipeline(job).of_input("r", {"n": 5})
    if numbers is None:
        [row] = made.rows
        assert row.failure is not None
        assert "5" not in row.failure
    else:
        assert [(row.key, row.row) for row in made.rows] == [
            (f"r#{place}", {"n": number}) for place, number in enumerate(numbers, start=1)
        ]


def test_groups_by_parent_over_a_stage_in_between_take_the_key_apart() -> None:
    stages = digest_stages(
        checked={"from": "facts", "request": a_request("{{ facts }}")},
        late={
            "from": "checked",
            "group_by": "parent",
            "request": a_request("{% for row in rows %}{{ row.checked }}{% endfor %}"),
        },
    )
    made = a_pipeline(stages).of_settled("checked", SettledRow("a#b#3", {}, "x"))
    assert [(member.stage, member.key) for member in made.grouped] == [("late", "a#b")]
