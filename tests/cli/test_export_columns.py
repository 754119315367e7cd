"""Columns of the rows, and what answers hold beside their text, go with the results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from .conftest import RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none")
ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "One.", "title": "Größe", "price": 12345678901234567890},
    {"id": "b", "text": "Two.", "title": None, "price": 2, "more": [1]},
]


@pytest.fixture
def job(folder: Path) -> Callable[..., None]:
    """Writes the job with these fields in place of its own."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def write(**fields: Any) -> None:
        request = {"model": "gpt-6-luna", "input": "Say: {{ text }}", "max_output_tokens": 200}
        spec = {"name": "greet", "input": {"path": "rows.jsonl", "key": "id"}}
        (folder / "job.yaml").write_text(json.dumps({**spec, "request": request, **fields}))

    return write


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_includes_columns_that_no_template_reads(folder: Path, cli: Cli, job: Callable[..., None]) -> None:
    job(output={"path": "out.jsonl", "include": ["title", "price"]})
    assert cli(*QUIET).code == 0
    expected = [{"title": row["title"], "price": row["price"]} for row in ROWS]
    assert [line["row"] for line in lines((folder / "out.jsonl").read_text())] == expected
    # As does an export of the run later, unless the command says otherwise.
    assert [line["row"] for line in lines(cli("export", "greet-1", "--db", "runs.db").out)] == expected
    texts = lines(cli("export", "greet-1", "--db", "runs.db", "--include", "text").out)
    assert [line["row"] for line in texts] == [{"text": row["text"]} for row in ROWS]
    assert "row" not in lines(cli("export", "greet-1", "--db", "runs.db", "--include", "none").out)[0]
    table = cli("export", "greet-1", "--db", "runs.db", "--format", "csv").out
    assert [row["row.price"] for row in csv.DictReader(io.StringIO(table))] == ["12345678901234567890", "2"]


def test_all_columns(folder: Path, cli: Cli, job: Callable[..., None]) -> None:
    job(output={"path": "out.csv", "include": "all"})
    assert cli(*QUIET).code == 0
    first, second = csv.DictReader(io.StringIO((folder / "out.csv").read_text()))
    assert [name for name in first if name.startswith("row.")] == [
        "row.id",
        "row.text",
        "row.title",
        "row.price",
        "row.more",
    ]
    assert (first["row.title"], second["row.more"]) == ("Größe", "[1]")


def test_a_trial_keeps_the_columns_for_later(cli: Cli, job: Callable[..., None]) -> None:
    job(output={"path": "out.jsonl", "include": ["title"]})
    assert cli(*QUIET, "--limit", "1").code == 0
    assert lines(cli("export", "greet-1", "--db", "runs.db").out)[0]["row"] == {"title": "Größe"}
    assert cli(*QUIET).code == 0
    assert [line["row"]["title"] for line in lines(cli("export", "greet-1", "--db", "runs.db").out)] == [
        "Größe",
        None,
    ]


def test_columns_do_not_belong_to_the_identity_of_a_run(cli: Cli, job: Callable[..., None]) -> None:
    job()
    assert cli(*QUIET, "--limit", "1").code == 0
    job(output={"include": ["title"]})
    assert cli(*QUIET).code == 0
    found = lines(cli("export", "greet-1", "--db", "runs.db").out)
    assert [line["row"] for line in found] == [{"title": None}, {"title": None}]


def test_a_column_that_is_not_there_is_refused(cli: Cli, job: Callable[..., None]) -> None:
    job(output={"path": "out.jsonl", "include": ["titel"]})
    ended = cli(*QUIET)
    assert (ended.code, 'reads the column "titel", which no row has' in ended.err) == (2, True)
    assert 'did you mean "title"' in ended.err
    job()
    assert cli(*QUIET).code == 0
    ended = cli("export", "greet-1", "--db", "runs.db", "--include", "text, title")
    assert (ended.code, "keeps no column title; it keeps text" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({}, "must hold path, include or both"),
        ({"path": "out.xlsx"}, "must end in .jsonl, .csv or .parquet"),
        ({"path": "out.csv", "include": "title"}, "must be a list of columns, or all"),
        ({"include": []}, "output.include: must not be empty"),
        ({"includes": ["a"]}, 'did you mean "include"?'),
        ({"path": "out.jsonl", "incldue": ["a"]}, 'did you mean "include"?'),
        ({"path": "out.jsonl", "incldue": "all"}, 'did you mean "include"?'),
        ({"paht": "out.jsonl"}, "name one file, or {path, include}"),
        (7, "must be the path of a file, {path, include}, or a file for each stage"),
        ("out.txt", "must end in .jsonl, .csv or .parquet"),
    ],
)
def test_a_wrong_output_is_refused_with_its_line(cli: Cli, job: Callable[..., None], output: Any, said: str) -> None:
    job(output=output)
    ended = cli(*QUIET)
    assert (ended.code, said in ended.err, "job.yaml:1: output" in ended.err) == (2, True, True), ended.err


@pytest.mark.parametrize(
    "arguments", [("--include", ""), ("--include", ","), ("--include", "id", "--format", "openai-batch")]
)
def test_a_wrong_include_is_refused(cli: Cli, job: Callable[..., None], arguments: tuple[str, ...]) -> None:
    job()
    assert cli(*QUIET, "--limit", "1").code == 0
    assert cli("export", "greet-1", "--db", "runs.db", *arguments).code == 2


def test_what_tools_found_is_in_the_lines_of_a_job_that_asks_for_it(cli: Cli, job: Callable[..., None]) -> None:
    tools = [
        {"type": "web_search"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "image_generation"},
    ]
    include = ["file_search_call.results", "message.output_text.logprobs"]
    more = {"tools": tools, "include": include, "reasoning": {"summary": "auto"}}
    job(request={"model": "gpt-6.1-terra", "input": "{{ text }}", **more})
    assert cli(*QUIET, "--limit", "1").code == 0
    [line] = lines(cli("export", "greet-1", "--db", "runs.db").out)
    assert [each["type"] for each in line["citations"]] == ["url_citation", "file_citation"]
    assert line["file_results"][0]["filename"] == "sandbox.txt"
    assert line["images"][0]["base64"].startswith("iVBOR")
    assert "".join(each["token"] for each in line["logprobs"]) == line["output_text"]
    assert "The text begins" in line["reasoning_summary"]


def test_other_jobs_have_no_such_fields(cli: Cli, job: Callable[..., None]) -> None:
    job()
    assert cli(*QUIET, "--limit", "1").code == 0
    assert "citations" not in lines(cli("export", "greet-1", "--db", "runs.db").out)[0]
