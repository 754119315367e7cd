"""A run that could send nothing is no success, and a job of which nothing can be sent is refused first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import ROWS, RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none")


def change_job(folder: Path, old: str, new: str) -> None:
    text = (folder / "job.yaml").read_text()
    assert old in text
    (folder / "job.yaml").write_text(text.replace(old, new))


def test_a_run_whose_every_row_was_skipped_is_exit_3_and_names_the_first(folder: Path, cli: Cli) -> None:
    rows = [json.dumps({"id": None, "text": "short"})] * ROWS
    (folder / "rows.jsonl").write_text("\n".join(rows))
    change_job(folder, "key: id", "key: id, on_bad_row: skip")
    ended = cli(*QUIET, "--json")
    summary = json.loads(ended.out)
    assert (ended.code, summary["skipped"], summary["requests"]["total"]) == (3, ROWS, 0)
    assert "every row was skipped (30), so nothing was sent; rows.jsonl:1: " in ended.err
    status = json.loads(cli("status", "--db", "runs.db", "--json").out)
    assert status["skipped"] == ROWS
    assert cli(*RUN, "--dry-run").code == 3


def test_an_empty_input_is_exit_3_unless_it_may_be_empty(folder: Path, cli: Cli) -> None:
    (folder / "rows.jsonl").write_text("")
    ended = cli(*QUIET)
    assert (ended.code, "may_be_empty" in ended.err) == (3, True)
    change_job(folder, "key: id", "key: id, may_be_empty: true")
    ended = cli(*QUIET)
    assert (ended.code, "may_be_empty" in ended.err) == (0, False)


def test_a_misspelt_column_of_a_header_is_refused_before_there_is_a_database(folder: Path, cli: Cli) -> None:
    (folder / "rows.csv").write_text("id,text\n1,one\n")
    change_job(folder, "rows.jsonl, key: id", "rows.csv, key: id, on_bad_row: skip")
    change_job(folder, "{{ text }}", "{{ txet }}")
    ended = cli(*QUIET)
    assert ended.code == 2
    assert 'job.yaml:5: request.input: reads the column "txet"' in ended.err
    assert cli(*RUN, "--dry-run").code == 2
    assert not (folder / "runs.db").exists()


@pytest.mark.parametrize("budget", ["job", "config"])
def test_under_a_budget_a_model_without_a_price_is_refused_with_the_lines_to_add(
    folder: Path, cli: Cli, budget: str
) -> None:
    change_job(folder, "gpt-5-mini", "my-model")
    file, line = (
        ("job.yaml", "budget: {usd: 5}\n") if budget == "job" else ("config.yaml", "budget: {usd_per_day: 5}\n")
    )
    with (folder / file).open("a") as stream:
        stream.write(line)
    ended = cli(*QUIET)
    assert ended.code == 2
    assert "    - model: my-model\n      input: USD_PER_MILLION_INPUT_TOKENS\n" in ended.err
    assert not (folder / "runs.db").exists()
    (folder / "prices.yaml").write_text("prices:\n  - {model: my-model, input: 1, output: 2}\n")
    with (folder / "config.yaml").open("a") as stream:
        stream.write("prices: prices.yaml\n")
    assert cli(*RUN, "--dry-run").code == 0


def test_the_models_of_rows_are_checked_too(folder: Path, cli: Cli) -> None:
    change_job(folder, "model: gpt-5-mini", 'model: "{{ model }}"\n  service_tier: flex')
    with (folder / "job.yaml").open("a") as stream:
        stream.write("budget: {usd: 5}\n")
    rows = [{"id": n, "text": "x", "model": f"none-{n}"} for n in range(3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = cli(*QUIET)
    assert (ended.code, 'no price is known for the model "none-0" (nor for 2 others' in ended.err) == (2, True)
    rows[2]["model"] = "gpt-5-mini"
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli(*RUN, "--dry-run").code == 0


def test_retrying_a_code_that_no_request_has_is_refused_with_those_there_are(folder: Path, cli: Cli) -> None:
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("faults: {}", "faults: {refusal: 1}"))
    assert cli(*QUIET, "--limit", "3").code == 3
    ended = cli("retry", "greet-1", "--db", "runs.db", "--code", "nosuch")
    assert (ended.code, "its codes: refusal 3" in ended.err) == (2, True)
    assert cli("retry", "greet-1", "--db", "runs.db", "--state", "cancelled", "--code", "refusal").code == 2
    assert cli("retry", "greet-1", "--db", "runs.db", "--code", "refusal").code == 0
