"""What is wrong with stages is reported before anything is sent, and each row keeps only what is read later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.spec import Job, load_job
from orchestrator.job.stages.pipeline import stage_plans
from orchestrator.job.stages.stage_jobs import renderer_of, requesting_stages, stage_job

from .builders import a_job, a_request, digest_stages

ONE = {"one": {"from": "input", "request": a_request("{{ text }}")}}
GROUP = {"from": "one", "group_by": "kind", "request": a_request("{% for row in rows %}{{ row.one }}{% endfor %}")}


def refusal(tmp_path: Path, stages: dict[str, Any], **more: Any) -> str:
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n', encoding="utf-8")
    job = {"name": "a", "input": {"path": "rows.jsonl"}, "stages": stages, **more}
    (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_job(tmp_path / "job.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"one": {"from": "two", "request": a_request("x")}}, "names neither input nor a stage before"),
        ({"rows": ONE["one"]}, "is no name for a stage"),
        ({"input": ONE["one"]}, "is no name for a stage"),
        ({"a-b": ONE["one"]}, "is no name for a stage"),
        ({"one": {"from": "input"}}, "has no request, and no stage reads it"),
        ({"one": {"from": "input", "rows": "a:b", "group_by": [], "request": a_request("x")}}, "cannot stand beside"),
        (
            {"one": {"from": "input", "group_by": [], "request": a_request("x")}},
            "needs rows of a stage with a request",
        ),
        ({**ONE, "two": {"from": "one", "group_by": "kind"}}, "needs a request in the same stage"),
        ({**ONE, "two": {**GROUP, "group_by": "parent"}}, "makes several rows of one"),
        ({**ONE, "two": {**GROUP, "max_input_tokens": 500}}, "needs merge"),
        ({**ONE, "two": {**GROUP, "max_input_tokens": 150, "merge": {"input": "x"}}}, "must be at least"),
        ({"one": {**ONE["one"], "max_input_tokens": 5}}, "only for a stage with group_by"),
        ({"one": {"from": "input", "request": {"input": "x"}}}, "model"),
        ({"one": {"from": "input", "request": a_request("{{ x")}}, "template"),
        ({"one": {"from": "input", "expand": {"text": "x"}, "request": a_request("x")}}, "max_tokens"),
        ({"one": {"from": "input", "expand": {}, "request": a_request("x")}}, "text or list"),
        ({**ONE, "two": {**GROUP, "missing": {"at_most": "5"}}}, "at_most"),
        ({"one": {**ONE["one"], "retry": {}}}, "retry"),
    ],
)
def test_a_wrong_stage_is_refused_with_its_place(tmp_path: Path, stages: dict[str, Any], said: str) -> None:
    message = refusal(tmp_path, stages)
    assert said in message
    assert "job.yaml:" in message
    assert "stages" in message


@pytest.mark.parametrize(
    "beside",
    [{"request": a_request("x")}, {"stream": True}, {"chain": {"by": "x"}}, {"increments": {}}],
)
def test_what_belongs_to_one_request_cannot_stand_beside_stages(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert "cannot stand beside stages" in refusal(tmp_path, ONE, **beside)


def test_a_row_keeps_only_the_columns_that_are_read_later() -> None:
    plans = stage_plans(a_job(digest_stages()).stages or {})
    assert plans["facts"].columns == frozenset({"part", "part_number", "part_count", "title", "section"})
    assert plans["article"].columns == frozenset({"title", "section"})
    assert plans["digest"].columns == frozenset({"section"})


def test_a_function_may_read_every_column() -> None:
    stages = {**ONE, "two": {"from": "one", "rows": "json:loads", "request": a_request("{{ x }}")}}
    assert stage_plans(a_job(stages).stages or {})["one"].columns is None


def test_a_group_whose_rows_are_inserted_whole_keeps_all_of_them() -> None:
    stages = {**ONE, "two": {**GROUP, "request": a_request("{{ rows | tojson }}")}}
    assert stage_plans(a_job(stages).stages or {})["one"].columns is None


def test_groups_are_complete_at_once_only_where_their_rows_are_made_together() -> None:
    stages = digest_stages(
        checked={"from": "facts", "request": a_request("{{ facts }}")},
        late={
            "from": "checked",
            "group_by": "parent",
            "request": a_request("{% for row in rows %}{{ row.checked }}{% endfor %}"),
        },
    )
    plans = stage_plans(a_job(stages).stages or {})
    assert plans["article"].by_parent_at_once
    assert not plans["late"].by_parent_at_once
    assert not plans["article"].consumers[0].by_parent_at_once
    assert [plan.passes_on for plan in plans.values()] == [True, True, True, False, True, False]


def test_a_stage_is_a_job_of_its_own() -> None:
    job = a_job(digest_stages(), retry={"attempts": 7}, duplicates="each")
    facts = stage_job(job, "facts")
    assert (facts.stages, facts.request["model"], facts.retry.attempts, facts.duplicates) == (
        None,
        "gpt-5-mini",
        7,
        "each",
    )
    assert list(requesting_stages(job)) == ["facts", "article", "digest"]
    own = digest_stages()
    own["facts"] |= {"attempts": 2, "duplicates": "once", "on_incomplete": "keep"}
    facts = stage_job(a_job(own), "facts")
    assert (facts.retry.attempts, facts.duplicates, facts.on_incomplete) == (2, "once", "keep")


def test_a_job_without_stages_is_its_own_stage() -> None:
    job = Job.model_validate({"name": "a", "input": {"path": "x.jsonl"}, "request": a_request("{{ text }}")})
    assert stage_job(job, "main") is job
    assert requesting_stages(job) == {}


def test_a_stored_job_has_the_same_stages() -> None:
    job = a_job(digest_stages())
    stored = job.model_dump(mode="json", exclude={"output_model": True, "stages": {"__all__": {"output_model"}}})
    again = Job.model_validate(stored)
    assert again.stages == job.stages
    assert again.fingerprint() == job.fingerprint()


def test_another_prompt_in_a_stage_is_another_run() -> None:
    other = digest_stages()
    other["digest"] = {**other["digest"], "request": a_request("{{ section }}")}
    assert a_job(other).fingerprint() != a_job(digest_stages()).fingerprint()


def test_merging_replaces_fields_of_the_request() -> None:
    stages = {
        **ONE,
        "two": {
            **GROUP,
            "max_input_tokens": 500,
            "merge": {"input": "M{% for row in rows %}{{ row.two }}{% endfor %}"},
        },
    }
    renderer = renderer_of(a_job(stages), "two")
    asked = renderer.render(b'{"rows": [{"one": "x"}]}', where="here")
    merged = renderer.render(b'{"rows": [{"two": "y"}], "merges_parts": true}', where="here")
    assert (asked["input"], merged["input"], merged["model"]) == ("x", "My", "gpt-5-mini")
