"""The shape of a job's answers: inline, in a file, or of a Pydantic class."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.incomplete import Repairs
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import Input, Job, load_job
from orchestrator.policy.errors.answer_schema import asked_schema
from tests.job.builders import Write

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"year": {"type": "integer"}},
    "required": ["year"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "speech", "schema": SCHEMA, "strict": True}
CODE = """
from pydantic import BaseModel

class Speech(BaseModel):
    year: int

class Counts(BaseModel):
    counts: dict[str, int]

one = Speech(year=1)


class Plain:
    pass
"""


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    names, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - names:
        del sys.modules[name]


class Make(Protocol):
    def __call__(self, format: Any = None, *, request: dict[str, Any] | None = None, **fields: Any) -> Job: ...  # noqa: A002


@pytest.fixture
def make(write: Write) -> Make:
    """A job whose answers have a shape, in a folder with what can give one."""
    write("rows.jsonl", '{"text": "a"}\n')
    write("speech.json", json.dumps(SCHEMA))
    write("shapes_of_mine.py", CODE)

    def make(format: Any = None, *, request: dict[str, Any] | None = None, **fields: Any) -> Job:  # noqa: A002
        text = {"text": {"format": format}} if format is not None else {}
        fields["request"] = {"model": "m", "input": "{{ text }}", **text, **(request or {})}
        return load_job(write("job.yaml", json.dumps({"name": "a", "input": {"path": "rows.jsonl"}, **fields})))

    return make


def test_a_schema_in_a_file_is_sent_as_it_would_be_inline(make: Make) -> None:
    inline, filed = make(FORMAT), make({**FORMAT, "schema": "speech.json"})
    assert filed.request == inline.request
    assert asked_schema(filed.request) == SCHEMA
    assert filed.fingerprint() == inline.fingerprint()


def test_a_class_gives_a_strict_format_and_keeps_the_verbosity(make: Make) -> None:
    job = make(request={"text": {"verbosity": "low"}}, output_model="shapes_of_mine:Speech")
    shape = job.request["text"]["format"]
    assert (shape["type"], shape["name"], shape["strict"]) == ("json_schema", "Speech", True)
    assert shape["schema"]["required"] == ["year"]
    assert job.request["text"]["verbosity"] == "low"
    assert Renderer(job).render(b'{"text": "a"}', where="")["text"] == job.request["text"]


def test_what_counts_is_the_schema_and_not_where_it_comes_from(make: Make, write: Write) -> None:
    job = make({**FORMAT, "schema": "speech.json"})
    write("other.json", json.dumps(SCHEMA, indent=3))
    assert make({**FORMAT, "schema": "other.json"}).fingerprint() == job.fingerprint()
    write("speech.json", json.dumps({**SCHEMA, "description": "changed"}))
    assert make({**FORMAT, "schema": "speech.json"}).fingerprint() != job.fingerprint()

    of_class = make(output_model="shapes_of_mine:Speech")
    assert make(of_class.request["text"]["format"]).fingerprint() == of_class.fingerprint()


def test_a_job_as_stored_needs_neither_file_nor_class(make: Make) -> None:
    for job in (make({**FORMAT, "schema": "speech.json"}), make(output_model="shapes_of_mine:Speech")):
        stored = job.model_dump(mode="json", exclude={"output_model"})
        again = Job.model_validate_json(json.dumps(stored))
        assert again.request == job.request
        assert again.fingerprint() == job.fingerprint()


def test_a_job_read_twice_is_the_same(make: Make) -> None:
    job = make(output_model="shapes_of_mine:Speech")
    again = Job.model_validate(job.model_dump(), context={"source": job.source})
    assert again == job


def test_a_job_made_in_python_finds_its_class_in_the_working_directory(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.chdir(tmp_path)
    request = {"model": "m", "input": "x"}
    job = Job(name="a", input=Input(path="-"), request=request, output_model="shapes_of_mine:Speech")
    assert job.request["text"]["format"]["name"] == "Speech"
    assert request == {"model": "m", "input": "x"}


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        (
            {"format": {**FORMAT, "schema": "absent.json"}},
            'request.text.format.schema: the file "{folder}/absent.json" cannot be read: No such file or directory',
            "relative to the job file",
        ),
        (
            {"format": {**FORMAT, "schema": "shapes_of_mine.py"}},
            'request.text.format.schema: the file "{folder}/shapes_of_mine.py" is not JSON: ',
            "",
        ),
        (
            {"format": {**FORMAT, "schema": {"properties": {"year": {"type": "CANARY"}}}}},
            "request.text.format.schema: is no JSON Schema at properties.year.type: ",
            "",
        ),
        (
            {"format": FORMAT, "output_model": "shapes_of_mine:Speech"},
            "output_model: cannot stand beside request.text.format",
            "keep one of the two",
        ),
        (
            {"output_model": "shapes_of_mine:Spech"},
            "output_model: shapes_of_mine has no Spech",
            'did you mean "Speech"?',
        ),
        ({"output_model": "nowhere_of_mine:Speech"}, "output_model: there is no module nowhere_of_mine", "beside"),
        ({"output_model": "shapes_of_mine:one"}, "output_model: must name a Pydantic class", "BaseModel"),
        ({"output_model": "shapes_of_mine:Plain"}, "output_model: must name a Pydantic class", "BaseModel"),
        ({"output_model": "shapes_of_mine:Counts"}, "output_model: Counts.counts takes fields of any name", "a list"),
        ({"output_model": 5}, "output_model: must be text", ""),
        (
            {"output_model": "shapes_of_mine:Speech", "request": {"text": "{{ shape }}"}},
            "output_model: cannot stand beside a request.text that is one template",
            "",
        ),
        ({"format": FORMAT, "on_invalid": "mend"}, "on_invalid: must be fail, retry, repair or {repairs: N}", ""),
        ({"format": FORMAT, "on_invalid": {"repairs": 0}}, "on_invalid.repairs: must be at least 1", ""),
        ({"format": "{{ shape }}"}, "request.text.format: must be a mapping", "one shape for all rows"),
        (
            {"format": {**FORMAT, "schema": '{{ "a" }}'}},
            "request.text.format.schema: the file",
            "relative to the job file",
        ),
    ],
)
def test_what_gives_no_shape_is_refused_with_its_line(
    make: Make, tmp_path: Path, fields: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(SpecError) as caught:
        make(**fields)
    assert str(caught.value.where).startswith(str(tmp_path / "job.yaml"))
    assert caught.value.message.startswith(message.replace("{folder}", str(tmp_path)))
    assert hint in (caught.value.hint or "")
    assert "CANARY" not in caught.value.message


def test_words_of_a_schema_are_no_templates(make: Make, write: Write) -> None:
    schema = {**SCHEMA, "description": "as in {{ mustache }} and {% percent"}
    write("speech.json", json.dumps(schema))
    job = make({**FORMAT, "schema": "speech.json"})
    renderer = Renderer(job)
    assert renderer.render(b'{"text": "a"}', where="")["text"]["format"]["schema"] == schema
    assert renderer.columns == frozenset({"text"})


def test_what_is_not_stored_cannot_be_repaired(make: Make) -> None:
    make(FORMAT, request={"store": False}, on_invalid="retry")
    for on_invalid in ("repair", {"repairs": 2}):
        with pytest.raises(SpecError, match="on_invalid: cannot repair an answer that is not stored"):
            make(FORMAT, request={"store": False}, on_invalid=on_invalid)


def test_how_often_to_repair(make: Make) -> None:
    assert make(FORMAT).on_invalid == "fail"
    assert make(FORMAT, on_invalid="repair").on_invalid == "repair"
    assert make(FORMAT, on_invalid={"repairs": 3}).on_invalid == Repairs(repairs=3)
    assert make(FORMAT, on_invalid="retry").fingerprint() != make(FORMAT).fingerprint()


def test_what_seems_a_slip_is_warned_about(make: Make) -> None:
    assert make(FORMAT, on_invalid="repair").warnings() == []
    assert make(output_model="shapes_of_mine:Speech").warnings() == []
    [idle] = make(on_invalid="repair").warnings()
    assert idle.startswith("on_invalid does nothing")
    loose = {"type": "object", "properties": {"a": {"type": "array", "items": {"properties": {"b": {}}}}}}
    assert make({**FORMAT, "schema": loose, "strict": False}).warnings() == []
    [warning] = make({**FORMAT, "schema": loose}).warnings()
    assert warning.startswith("request.text.format is strict, but its schema is not, and may be refused: ")
    for part in ("its top lacks additional", "its top does not require a", "a[] lacks", "a[] does not require b"):
        assert part in warning
