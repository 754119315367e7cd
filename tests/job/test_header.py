"""A column that no row has is refused before anything is planned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.header import refuse_missing_columns
from orchestrator.job.spec import load_job

from .builders import MakeJob, Write, lines

CSV = "id,text\n1,one\n2,two\n"


def check(make_job: MakeJob, path: str = "rows.csv", template: str = "{{ text }}", **fields: Any) -> None:
    job = make_job(path=path, request={"model": "gpt-5-mini", "input": template}, on_bad_row="skip", **fields)
    refuse_missing_columns(job, Renderer(job))


@pytest.mark.parametrize(
    "template",
    [
        "{{ txet }}",
        "Summarise: {{ text }} {{ txet | upper }}",
        '{{ row["txet"] }}',
        "{% if txet %}{{ text }}{% endif %}",
        "{% for word in txet %}{{ word }}{% endfor %}",
    ],
)
def test_a_misspelt_column_is_refused_with_its_line(template: str, write: Write, make_job: MakeJob) -> None:
    write("rows.csv", CSV)
    with pytest.raises(
        SpecError, match=r'job.yaml:1: request.input: reads the column "txet".*\n.*did you mean "text"'
    ):
        check(make_job, template=template)


@pytest.mark.parametrize(
    "template",
    [
        '{{ txet | default("") }}{{ text }}',
        "{% if txet is defined %}{{ txet }}{% endif %}{{ text }}",
        '{{ row["txet"] | d("none") }}',
        '{{ text if txet is undefined else txet.part | default("x") }}',
    ],
)
def test_a_column_whose_absence_is_provided_for_may_be_missing(
    template: str, write: Write, make_job: MakeJob
) -> None:
    write("rows.csv", CSV)
    check(make_job, template=template)


def test_the_key_is_a_column_too(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", CSV)
    with pytest.raises(SpecError, match=r'input.key: reads the column "idd"'):
        check(make_job, key="idd")


def test_text_files_have_columns_of_their_own(write: Write, make_job: MakeJob) -> None:
    write("a.txt", "words")
    check(make_job, "*.txt")
    with pytest.raises(SpecError, match="its columns are: name, path, text"):
        check(make_job, "*.txt", template="{{ body }}")


def test_lines_of_json_are_read_until_each_column_was_found(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines(*({"id": n} for n in range(999)), {"id": 999, "text": "two"}))
    check(make_job, "rows.jsonl")
    write("rows.jsonl", lines(*({"id": n} for n in range(1000)), {"id": 1000, "text": "two"}))
    with pytest.raises(SpecError, match="which none of the first 1,000 rows has"):
        check(make_job, "rows.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.ndjson"])
def test_a_column_that_no_line_has_is_refused(name: str, write: Write, make_job: MakeJob) -> None:
    write(name, lines({"id": 1, "text": "one"}, {"id": 2, "text": "two", "more": 1}))
    check(make_job, name)
    with pytest.raises(SpecError, match=r'reads the column "txet", which no row has(?s:.*)did you mean "text"'):
        check(make_job, name, template="{{ txet }}")
    write(name, "not JSON")
    check(make_job, name, template="{{ txet }}")


def test_columns_for_the_results_are_read_too(write: Write, tmp_path: Path) -> None:
    write("rows.csv", CSV)
    spec = {"name": "a", "input": {"path": "rows.csv"}, "request": {"model": "gpt-5-mini", "input": "{{ text }}"}}
    job = load_job(write("job.yaml", json.dumps({**spec, "output": {"include": ["id", "titel"]}})))
    with pytest.raises(SpecError, match=r'output.include\[?.?1\]?: reads the column "titel"'):
        refuse_missing_columns(job, Renderer(job))


def test_lines_of_json_may_differ_and_an_empty_file_has_no_columns(
    write: Write, make_job: MakeJob, tmp_path: Path
) -> None:
    write("rows.jsonl", lines({"id": 1}, {"id": 2, "text": "two"}))
    check(make_job, "rows.jsonl")
    (tmp_path / "rows.csv").write_text("")
    check(make_job)


def test_a_first_row_that_cannot_be_read_hides_nothing(write: Write, make_job: MakeJob) -> None:
    write("rows.csv", "id,text\nbroken\n1,one\n")
    check(make_job)
    with pytest.raises(SpecError, match="txet"):
        check(make_job, template="{{ txet }}")
