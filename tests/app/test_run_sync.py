"""Python without files and without ``await``: rows in, typed answers and tables out."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from orchestrator import Config, Job, OrchestratorError, Results, run_sync
from orchestrator.core.states import State
from orchestrator.job.rows.given_rows import as_json_lines
from orchestrator.job.rows.keyed_rows import Row, input_identity, open_rows
from tests.warm import warm_python

JOB = {"name": "greet", "request": {"model": "gpt-5-mini", "input": "Hello {{ name }}.", "max_output_tokens": 2000}}
QUICK = Config.model_validate({"provider": {"sandbox": {"latency": {"queue": 0, "run": 0.01}}}})


class Person(BaseModel):
    id: str
    name: str


@dataclasses.dataclass
class Order:
    id: int
    name: str


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "executable", warm_python())
    return tmp_path / "r.db"


def run(rows: Any, database: Path, **more: Any) -> Results:
    job = Job.model_validate({**JOB, "input": {"path": "-", "key": "id"}})
    return run_sync(job, rows=rows, config=QUICK, database=database, progress=False, **more)


def test_rows_in_memory_give_answers_by_key(database: Path) -> None:
    results = run(({"id": f"r{n}", "name": "Ännchen"} for n in range(3)), database)
    assert list(results.texts()) == ["r0", "r1", "r2"]
    assert [each.state for each in results] == [State.SUCCEEDED] * 3
    assert results[0].key == "r0"
    assert results.rows()[2]["key"] == "r2"
    assert isinstance(results.rows()[0]["cost_usd"], float)


def test_a_job_may_be_a_mapping_and_the_line_is_the_key(database: Path) -> None:
    results = run_sync(JOB, rows=[{"name": "a"}, {"name": "b"}], config=QUICK, database=database, progress=False)
    assert [each.key for each in results] == ["1", "2"]


def test_the_same_rows_resume_and_others_do_not(database: Path) -> None:
    rows = [{"id": "a", "name": "x"}]
    assert run(rows, database, name="one").summary.attempts == 1
    assert run(rows, database, name="one").summary.attempts == 1
    with pytest.raises(OrchestratorError):
        run([{"id": "b", "name": "y"}], database, name="one")


def test_it_runs_inside_a_running_loop(database: Path) -> None:
    async def cell() -> int:
        return len(run([{"id": "a", "name": "x"}], database))

    assert asyncio.run(cell()) == 1


def test_an_error_is_raised_where_the_run_was_called(database: Path) -> None:
    with pytest.raises(OrchestratorError, match="rows:2"):
        run([{"id": "a", "name": "x"}, {"name": "no key"}], database)


def test_what_a_notebook_shows_is_short_and_escaped(database: Path) -> None:
    results = run([{"id": "<b>", "name": "x" * 5000}], database)
    page = results._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "Hello" not in results.summary._repr_html_()
    assert len(repr(results)) < 300
    assert len(repr(results.summary)) < 300
    assert "spec_json" not in repr(results.summary.run)


def test_typed_answers_are_objects_of_the_class(database: Path) -> None:
    schema = {"type": "json_schema", "name": "person", "strict": True}
    schema["schema"] = {**Person.model_json_schema(), "additionalProperties": False}
    job = {**JOB, "request": {**JOB["request"], "text": {"format": schema}}}  # type: ignore[dict-item]
    results = run_sync(job, rows=[{"name": "a"}], config=QUICK, database=database, progress=False)
    assert isinstance(results.typed(Person)["1"], Person)


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_missing_package_is_named(database: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    results = run([{"id": "a", "name": "x"}], database)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OrchestratorError, match=f"{name} is not installed"):
        getattr(results, f"to_{name}")()


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([{"id": 1, "when": date(2026, 12, 1)}], {"id": 1, "when": "2026-12-01"}),
        ([Person(id="a", name="b")], {"id": "a", "name": "b"}),
        ([Order(1, "b")], {"id": 1, "name": "b"}),
        ([{"big": 2**70, "exact": Decimal("1.10")}], {"big": 2**70, "exact": "1.10"}),
        ([{"none": float("nan"), 3: True}], {"none": None, "3": True}),
        (SimpleNamespace(iter_rows=lambda *, named: iter([{"a": named}])), {"a": True}),
        (SimpleNamespace(to_dict=lambda kind: [{"a": kind}], columns=["a"]), {"a": "records"}),
        (SimpleNamespace(to_pylist=lambda: [{"a": 1}]), {"a": 1}),
    ],
)
def test_many_kinds_of_rows_are_taken(rows: Any, first: dict[str, Any]) -> None:
    line, *_ = as_json_lines(rows).splitlines()
    assert json.loads(line) == first


@pytest.mark.parametrize(
    "rows", ["text", {"a": 1}, 7, ["text"], [("a", 1)], [{"a": object()}], [{"a": 2**70, "b": 1j}]]
)
def test_what_is_no_row_is_refused(rows: Any) -> None:
    with pytest.raises(OrchestratorError):
        as_json_lines(rows)


def test_rows_may_be_read_again_and_are_known_by_their_content() -> None:
    job = Job.model_validate({**JOB, "input": {"path": "no/such/file.csv"}}).with_rows([{"id": "a"}], key="id")
    assert [[row.key for row in open_rows(job) if isinstance(row, Row)] for _ in range(2)] == [["a"], ["a"]]
    assert input_identity(job) == input_identity(job.with_rows([{"id": "a"}]))
    assert input_identity(job) != input_identity(job.with_rows([{"id": "b"}]))
    assert job.rows is not None
    assert orjson.loads(job.rows) == {"id": "a"}
