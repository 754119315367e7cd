from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.errors import SpecError
from orchestrator.job.incomplete import RaiseMaxOutputTokens
from orchestrator.job.spec import Input, Job, JobBudget, load_job

from .builders import MakeJob, Write, batch_line, lines

GOOD = """\
name: a-job
input: {path: rows.jsonl}
request:
  model: gpt-5-mini
  input: "{{ text }}"
"""


def test_a_whole_job(write: Write, tmp_path: Path) -> None:
    write("data/rows.jsonl", lines({"id": "1", "text": "x"}))
    path = write(
        "jobs/job.yaml",
        """\
name: a-job-2
input:
  path: ../data/rows.jsonl
  format: jsonl
  key: id
  limit: 500
  on_bad_row: skip
request:
  model: gpt-5-mini
  temperature: 0.7
  input: |
    Say it:

    {{ text }}
  metadata: {team: research}
retry: {attempts: 3}
on_incomplete: {raise_max_output_tokens_to: 2000}
budget: {usd: 5.00}
deadline: 6h
output: ../results/out.jsonl
""",
    )
    job = load_job(path)
    assert job.input == Input(path="../data/rows.jsonl", format="jsonl", key="id", limit=500, on_bad_row="skip")
    assert job.request == {
        "model": "gpt-5-mini",
        "temperature": 0.7,
        "input": "Say it:\n\n{{ text }}\n",
        "metadata": {"team": "research"},
    }
    assert type(job.request["temperature"]) is float
    assert job.retry.attempts == 3
    assert job.on_incomplete == RaiseMaxOutputTokens(raise_max_output_tokens_to=2000)
    assert job.budget
    assert job.budget.pusd == 5 * 10**12
    assert job.deadline == 6 * 3600
    assert (job.source, job.base_dir) == (path, path.parent)
    assert job.output_path == tmp_path / "results/out.jsonl"


def test_the_defaults(write: Write) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    job = load_job(write("job.yaml", GOOD))
    assert (job.input.format, job.input.on_bad_row, job.retry.attempts, job.on_incomplete) == (
        "auto",
        "stop",
        5,
        "fail",
    )
    assert (job.budget, job.deadline, job.output, job.output_path) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace("a-job", "A job"),
            "job.yaml:1: name: must be small letters, digits and hyphens, such as my-job-2",
        ),
        (
            GOOD.replace("path:", "pth:"),
            """\
job.yaml: 2 mistakes in the job file
  job.yaml:2: input.path: is required
  job.yaml:2: input.pth: there is no such field (did you mean "path"?)""",
        ),
        (
            GOOD.replace("rows.jsonl", "rows.jsonl, format: json"),
            "job.yaml:2: input.format: must be 'auto', 'jsonl', 'csv', 'parquet', 'text' or 'openai-batch'",
        ),
        (GOOD.replace("rows.jsonl", "rows.jsonl, limit: 0"), "job.yaml:2: input.limit: must be at least 1"),
        (
            GOOD.replace("rows.jsonl", "rows.jsonl, on_bad_row: ignore"),
            "job.yaml:2: input.on_bad_row: must be 'stop' or 'skip'",
        ),
        (
            GOOD.replace("rows.jsonl", "row.jsonl"),
            'job.yaml:2: input.path: there is no file "row.jsonl"\n  hint: did you mean "rows.jsonl"?',
        ),
        (GOOD.replace("rows.jsonl", "data/*.csv"), 'job.yaml:2: input.path: no file matches "data/*.csv"'),
        (
            GOOD.replace("rows.jsonl", "."),
            'job.yaml:2: input.path: "." is a folder\n  hint: name its files, such as "./*.txt"',
        ),
        (
            GOOD.replace("rows.jsonl", "job.yaml"),
            (
                'job.yaml:2: input.path: the name "job.yaml" does not show the format\n'
                "  hint: set input.format; known are .jsonl, .ndjson, .csv, .tsv, .parquet, .txt, .md, "
                "and all but .parquet followed by .gz"
            ),
        ),
        (
            GOOD.replace("rows.jsonl", '"-", format: parquet'),
            "job.yaml:2: input.path: parquet cannot be read from standard input",
        ),
        (
            GOOD.replace("  model: gpt-5-mini\n", ""),
            "job.yaml:3: request.model: is required\n  hint: the model's name, ",
        ),
        (
            GOOD + "  max_tokens: 300\n",
            "job.yaml:6: request.max_tokens: the Responses API has no such parameter\n  hint: use max_output_tokens",
        ),
        (
            GOOD + "  tools:\n    - type: function\n      function: {name: f}\n",
            "job.yaml:8: request.tools.0.function: is the form of chat completions\n  hint: put name, parameters",
        ),
        (
            GOOD + "  instructions: |\n    Say it.\n    {{ text | upcase }}\n",
            "job.yaml:6: request.instructions: is not a valid template (line 2 of it): No filter named 'upcase'",
        ),
        (
            GOOD.replace('"{{ text }}"', '"{{ text"'),
            "job.yaml:5: request.input: is not a valid template: unexpected end",
        ),
        (
            GOOD.replace('"{{ text }}"', "\"{% include 'x' %}\""),
            "job.yaml:5: request.input: a template cannot include or import another one",
        ),
        (
            GOOD.replace('"{{ text }}"', "{{ text }}"),
            "job.yaml:5: request.input: a field name must be text\n  hint: put templates in quotes",
        ),
        (GOOD + "  seed_of_ours: .nan\n", "job.yaml:6: request.seed_of_ours: must be a finite number"),
        (
            GOOD + "  fine: 0.12345678901234567890123\n",
            "job.yaml:6: request.fine: has more digits than a number of a request can\n  hint: put it in quotes",
        ),
        (GOOD + "retry: {attempts: 0}\n", "job.yaml:6: retry.attempts: must be at least 1"),
        (GOOD + "retry: 5\n", "job.yaml:6: retry: must be a mapping (name: value)"),
        (
            GOOD + "on_incomplete: try\n",
            "job.yaml:6: on_incomplete: must be fail, keep or {raise_max_output_tokens_to: N}",
        ),
        (
            GOOD + "on_incomplete: {raise_max_output_tokens_to: 10}\n",
            "job.yaml:6: on_incomplete.raise_max_output_tokens_to: must be at least 16",
        ),
        (
            GOOD + "  max_output_tokens: 300\non_incomplete: {raise_max_output_tokens_to: 300}\n",
            "job.yaml:7: on_incomplete.raise_max_output_tokens_to: must be more than request.max_output_tokens",
        ),
        (GOOD + "budget: {usd: 0}\n", "job.yaml:6: budget.usd: must be more than 0"),
        (GOOD + "budget: {}\n", "job.yaml:6: budget: must hold usd, usd_per_request or both"),
        (
            GOOD + "budget: {usd: 5 dollars}\n",
            "job.yaml:6: budget.usd: must be an amount of dollars such as 5 or 0.05",
        ),
        (
            GOOD + "budget: {eur: 5}\n",
            "job.yaml:6: budget.eur: there is no such field\n  hint: allowed: usd, usd_per_request",
        ),
        (GOOD + "deadline: soon\n", "job.yaml:6: deadline: must be a duration such as 90s"),
        (GOOD + "deadline: 0s\n", "job.yaml:6: deadline: must be more than 0"),
        (GOOD + "output: out.json\n", "job.yaml:6: output: must end in .jsonl, .csv or .parquet"),
        (GOOD + "output: ./rows.jsonl\n", "job.yaml:6: output: would overwrite the input\n  hint: name another file"),
        (GOOD + "bugdet: {usd: 5}\n", 'job.yaml:6: bugdet: there is no such field\n  hint: did you mean "budget"?'),
    ],
)
def test_a_wrong_job_is_refused_with_line_field_and_what_is_allowed(
    refusal_of: Callable[[str], str], text: str, message: str
) -> None:
    assert refusal_of(text).startswith(message)


def test_overrides_and_limit(write: Write) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    path = write("job.yaml", GOOD)
    overrides = {
        "request.model": "gpt-5",
        "request.reasoning.effort": "low",
        "retry.attempts": "2",
        "budget.usd": "0.1",
    }
    job = load_job(path, overrides=overrides, limit=7)
    assert job.request["model"] == "gpt-5"
    assert job.request["reasoning"] == {"effort": "low"}
    assert (job.retry.attempts, job.input.limit) == (2, 7)
    assert job.budget == JobBudget.model_validate({"usd": "0.1"})
    with pytest.raises(SpecError, match=r"^--set request\.max_output_tokens: must be a whole number of at least 16"):
        load_job(path, overrides={"request.max_output_tokens": "5"})
    with pytest.raises(SpecError, match=r"^--limit: must be at least 1"):
        load_job(path, limit=0)


@pytest.mark.parametrize(
    "change",
    [
        {"request.model": "gpt-5"},
        {"request.temperature": "0.5"},
        {"input.key": "id"},
        {"input.format": "jsonl"},
        {"input.path": "./rows.jsonl"},
        {"on_incomplete": "keep"},
    ],
)
def test_the_fingerprint_changes_with_what_decides_the_requests(write: Write, change: dict[str, str]) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    path = write("job.yaml", GOOD)
    assert load_job(path).fingerprint() != load_job(path, overrides=change).fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"retry.attempts": "9"},
        {"budget.usd": "5"},
        {"deadline": "1h"},
        {"output": "out.csv"},
        {"input.on_bad_row": "skip"},
        {"input.limit": "5"},
        {"input.may_be_empty": "true"},
        {"on_incomplete": "fail"},
        {"input.format": "auto"},
    ],
)
def test_the_fingerprint_stays_with_what_does_not(write: Write, change: dict[str, str]) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    path = write("job.yaml", GOOD)
    assert load_job(path).fingerprint() == load_job(path, overrides=change).fingerprint()


@pytest.mark.parametrize("section", ["chain: {by: id}", "increments: {}"])
def test_where_a_run_cannot_grow_the_limit_decides(write: Write, section: str) -> None:
    write("rows.jsonl", lines({"id": "x", "text": "x"}))
    path = write("job.yaml", GOOD.replace("rows.jsonl", "rows.jsonl, key: id") + section + "\n")
    assert load_job(path).fingerprint() != load_job(path, limit=5).fingerprint()


def test_the_fingerprint_does_not_depend_on_how_the_file_is_written(write: Write) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    again = (
        '{"request": {"input": "{{ text }}", "model": "gpt-5-mini"}, "input": {"path": "rows.jsonl"}, "name": "b"}'
    )
    one, other = load_job(write("job.yaml", GOOD)), load_job(write("job.json", again))
    assert one.fingerprint() == other.fingerprint()
    # Runs are resumed over versions of this package, so the figure itself must not move.
    assert one.fingerprint() == "7599c390716feadd4838016336b4094f5a6f9455ad112b297df0389d9c494187"


def test_a_job_survives_a_round_trip_through_json(write: Write) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    path = write(
        "job.yaml", GOOD + "budget: {usd: 0.1}\ndeadline: 90m\non_incomplete: {raise_max_output_tokens_to: 99}\n"
    )
    job = load_job(path)
    again = Job.model_validate_json(job.model_dump_json(), context={"source": path})
    assert again == job
    assert again.fingerprint() == job.fingerprint()


def test_a_job_can_be_made_in_python() -> None:
    job = Job(name="a", input=Input(path="rows.jsonl"), request={"model": "m", "include": ("a", "b")})
    assert (job.source, job.base_dir, job.request["include"]) == (None, Path(), ["a", "b"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"x": object()}, ("request", "x")),
        ({"x": {1: 2}}, ("request", "x")),
        ({"x": [{"y": b""}]}, ("request", "x", 0, "y")),
    ],
)
def test_what_json_does_not_have_is_refused(request_: dict[str, Any], field: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Job(name="a", input=Input(path="rows.jsonl"), request=request_)
    assert caught.value.errors()[0]["loc"] == field


def test_a_batch_file_needs_no_request(write: Write, make_job: MakeJob) -> None:
    write("batch.jsonl", lines(batch_line()))
    assert make_job(path="batch.jsonl", request={}).request == {}
    write("rows.jsonl", lines({"text": "x"}))
    with pytest.raises(SpecError, match=r"request\.model: is required"):
        make_job(path="rows.jsonl", request={})


def test_warnings_are_not_errors(write: Write, make_job: MakeJob) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    job = make_job(request={"model": "m", "input": "x", "max_output_token": 5})
    assert job.request["max_output_token"] == 5
    [warning] = job.warnings()
    assert 'did you mean "max_output_tokens"?' in warning


def test_the_same_output_elsewhere_overwrites_nothing(write: Write) -> None:
    write("rows.jsonl", lines({"text": "x"}))
    path = write("job.yaml", GOOD + "output: out/rows.jsonl\n")
    assert load_job(path).output_path == path.parent / "out/rows.jsonl"


@pytest.mark.parametrize("window", ["2h", "8h"])
def test_a_window_is_not_streamed(window: str) -> None:
    request = {"model": "m", "input": "x", "background_options": {"completion_window": window}}
    job = {"name": "a", "input": {"path": "rows.jsonl"}, "request": request}
    with pytest.raises(ValidationError, match="cannot be used with a completion window"):
        Job.model_validate({**job, "stream": True})
    assert Job.model_validate(job).stream is False
    request["background_options"] = {"completion_window": "soonest"}
    assert Job.model_validate({**job, "stream": True}).stream is True
