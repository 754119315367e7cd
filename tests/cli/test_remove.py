"""``remove``: a run is taken out of the database, and nothing else is lost with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from .conftest import RUN, Ended

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none", "--limit", "3")
AT = ("--db", "runs.db")


def results(cli: Cli, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli("export", run, *AT).out.splitlines()]


def tables_that_know(folder: Path, run_id: int) -> list[str]:
    """The tables with a row of a run."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        tables = connection.execute(
            "SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c ON c.name = 'run_id'"
            " WHERE m.type = 'table'"
        ).fetchall()
        return [
            name
            for (name,) in tables
            if connection.execute(f'SELECT 1 FROM "{name}" WHERE run_id = ?', (run_id,)).fetchone()  # noqa: S608
        ]


def test_a_run_is_removed_from_every_table(folder: Path, cli: Cli) -> None:
    assert cli(*QUIET).code == 0
    assert tables_that_know(folder, 1)
    asked = cli("remove", "greet-1", *AT)
    assert (asked.code, "say --yes" in asked.err) == (2, True)
    removed = cli("remove", "greet-1", *AT, "--yes", "--json")
    assert (removed.code, json.loads(removed.out)) == (0, {"run": "greet-1", "removed": True, "requests": 3})
    assert tables_that_know(folder, 1) == []
    assert json.loads(cli("list", *AT, "--json").out) == []
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
                  for name in ("run", "request", "input_row", "attempt", "charge", "result")}  # fmt: skip
        assert set(counts.values()) == {0}
        names = [name for (name,) in connection.execute("SELECT name FROM memory")]
    assert not [name for name in names if name.startswith(("sending:", "job_file:"))]
    assert cli("remove", "greet-1", *AT, "--yes").code == 2
    assert cli(*QUIET).code == 0


def test_answers_that_another_run_shares_stay_with_it(folder: Path, cli: Cli) -> None:
    with (folder / "job.yaml").open("a") as job:
        job.write("reuse: same-request\n")
    assert cli(*QUIET).code == 0
    assert cli(*QUIET, "--new").code == 0
    before = results(cli, "greet-2")
    status = json.loads(cli("status", "greet-2", *AT, "--json").out)
    assert status["reused"] == 3
    assert cli("remove", "greet-1", *AT, "--yes").code == 0
    after = results(cli, "greet-2")
    assert [row["output_text"] for row in after] == [row["output_text"] for row in before]
    assert [row["response_id"] for row in after] == [row["response_id"] for row in before]
    assert all(row["output_text"] and row["cost_usd"] == "0" for row in after)
    assert json.loads(cli("status", "greet-2", *AT, "--json").out)["reused"] == 3
    assert cli("show", "greet-2", "row-0", *AT).code == 0


def test_a_run_whose_answers_a_dataset_holds_is_needed(folder: Path, cli: Cli) -> None:
    with (folder / "job.yaml").open("a") as job:
        job.write("increments: {}\n")
    assert cli(*QUIET).code == 0
    ended = cli("remove", "greet-1", *AT, "--yes")
    assert (ended.code, "it holds answers of the dataset greet" in ended.err) == (2, True)
    assert len(results(cli, "greet-1")) == 3


def test_what_is_in_doubt_must_be_decided_first(folder: Path, cli: Cli) -> None:
    config = (folder / "config.yaml").read_text().replace("faults: {}", "faults: {drop_after: 1}")
    (folder / "config.yaml").write_text(config + "in_doubt: {resend_below_usd: 0}\n")
    assert cli(*QUIET).code == 4
    ended = cli("remove", "greet-1", *AT, "--yes")
    assert (ended.code, "3 requests that are open at the provider or in doubt" in ended.err) == (2, True)
    assert cli("cancel", "greet-1", *AT, "--config", "config.yaml").code == 0
    assert cli("remove", "greet-1", *AT, "--yes").code == 0
