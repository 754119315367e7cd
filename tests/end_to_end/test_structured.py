"""Answers that must have a shape, from the job file to the typed export, over a real socket."""

from __future__ import annotations

import csv
import io
import json
import random
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from orchestrator.policy.errors.answer_schema import AnswerSchema
from tests.end_to_end.rig import Rig

CODE = '''
from pydantic import BaseModel, Field


class Person(BaseModel):
    name: str
    office: str | None


class Speech(BaseModel):
    """What a speech says."""

    year: int = Field(description="In which it was held.")
    speaker: Person
    topics: list[str]
    war: bool
'''
REQUEST = {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 800}
MakeRig = Callable[..., Rig]
FEW = {"max_in_flight": 8}


@pytest.fixture
def typed(rig: MakeRig) -> MakeRig:
    """A rig whose job asks for a record of each row, by a class beside the job file."""

    def make(*, rows: int = 6, faults: dict[str, Any] | None = None, **job: Any) -> Rig:
        sandbox = {"latency": {"queue": 0.01, "run": 0.05}, "faults": faults or {}}
        at = rig(rows=rows, job={"request": REQUEST, "output_model": "shapes:Speech", **job}, sandbox=sandbox)
        (at.folder / "shapes.py").write_text(CODE)
        return at

    return make


def exported(at: Rig, *arguments: str) -> str:
    ended = at.call("export", "r", "--db", "runs.db", *arguments)
    assert ended.code == 0, ended.err
    return ended.out


def results(at: Rig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(at).splitlines()]


def reached(count: Callable[[], int], point: int) -> bool:
    return count() >= point


def schema_of(at: Rig) -> AnswerSchema:
    [(spec,)] = at.query("SELECT spec FROM run")
    return AnswerSchema(json.loads(spec)["request"]["text"]["format"]["schema"])


def test_answers_are_typed_in_every_export(typed: MakeRig) -> None:
    at = typed(output="out.parquet")
    ended = at.run()
    assert ended.code == 0, ended.err
    # What is stored needs the class no more.
    (at.folder / "shapes.py").unlink()
    schema = schema_of(at)
    rows = results(at)
    assert len(rows) == 6
    for row in rows:
        assert row["output"] == json.loads(row["output_text"])
        assert schema.flaw(row["output_text"]) is None

    names = ["output.year", "output.speaker.name", "output.speaker.office", "output.topics", "output.war"]
    table = list(csv.DictReader(io.StringIO(exported(at, "--format", "csv"), newline="")))
    assert list(table[0])[-5:] == names
    for row, flat in zip(rows, table, strict=True):
        assert flat["output.year"] == str(row["output"]["year"])
        assert flat["output.speaker.name"] == row["output"]["speaker"]["name"]
        assert json.loads(flat["output.topics"]) == row["output"]["topics"]
        assert flat["output.war"] == str(row["output"]["war"]).lower()

    arro3_io = pytest.importorskip("arro3.io")
    parquet = arro3_io.read_parquet(at.folder / "out.parquet").read_all()
    assert parquet.column_names[-5:] == names
    assert parquet.column("output.year").to_pylist() == [row["output"]["year"] for row in rows]
    assert parquet.column("output.war").to_pylist() == [row["output"]["war"] for row in rows]

    # A changed class is another job.
    (at.folder / "shapes.py").write_text(CODE.replace("war: bool", "peace: bool"))
    changed = at.run()
    assert changed.code == 2
    assert "request.text.format.schema" in changed.err


# Eleven processes, one after the other.
@pytest.mark.long
def test_ten_kills_lose_no_repair_and_ask_for_none_twice(typed: MakeRig) -> None:
    at = typed(rows=20, faults={"wrong_schema": 1}, on_invalid={"repairs": 2})
    slow = {"queue": 0.01, "run": {"from_s": 0.2, "to_s": 0.6}}
    at.write_config({"provider": {"sandbox": {"latency": slow, "faults": {"wrong_schema": 1}}}, "limits": FEW})

    def charges() -> int:
        found = at.query("SELECT count(*) FROM charge")
        return int(found[0][0]) if found else 0

    for point in sorted(random.Random(5).sample(range(1, 56), 10)):
        killed = at.run_until(partial(reached, charges, point), send=signal.SIGKILL)
        assert killed.code == -signal.SIGKILL
    ended = at.run()
    assert ended.code == 3
    rows = results(at)
    assert [row["error"]["code"] for row in rows] == ["output_invalid"] * 20
    # Each row was sent once and repaired twice, and again only if its create was on the wire at a kill.
    doubtful = ended.summary["possible_duplicates"]
    assert sum(row["attempts"] for row in rows) == 60 + doubtful
    assert 60 <= at.ledger()["creates"]["accepted"] <= 60 + doubtful


@pytest.mark.long
def test_typed_answers_are_the_same_after_a_kill(typed: MakeRig) -> None:
    at = typed(rows=20)
    at.run_until(lambda: at.settled() >= 5, send=signal.SIGKILL)
    assert at.run().code == 0
    with_kill = {row["key"]: row["output"] for row in results(at)}
    for file in at.folder.glob("runs.db*"):
        file.unlink()
    assert at.run().code == 0
    assert with_kill == {row["key"]: row["output"] for row in results(at)}
