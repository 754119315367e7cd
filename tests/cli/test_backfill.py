"""``run --backfill``: each day once, the oldest first, and one budget for all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest

from .conftest import Ended

Cli: TypeAlias = Callable[..., Ended]
ROWS = 5
DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")
RUN = ("run", "day.yaml", "--config", "config.yaml", "--progress", "none", "--yes")


@pytest.fixture(autouse=True)
def _days(folder: Path) -> None:
    for day in DAYS:
        rows = (json.dumps({"id": f"r{number}", "text": f"{day}, {number}."}) for number in range(ROWS))
        (folder / f"in-{day}.jsonl").write_text("\n".join(rows))
    job = {
        "name": "day",
        "input": {"path": "in-{{ run.date }}.jsonl", "key": "id"},
        "request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 300},
        "output": "out-{{ run.date }}.jsonl",
    }
    (folder / "day.yaml").write_text(json.dumps(job))


def runs(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        return connection.execute("SELECT name, state FROM run ORDER BY id").fetchall()


def backfill(process: Cli, first: str, last: str, *more: str) -> Ended:
    return process(*RUN, "--backfill", f"{first}..{last}", *more)


def test_each_day_has_a_run_of_its_own_and_is_asked_once(folder: Path, process: Cli) -> None:
    assert process(*RUN, "--date", DAYS[1]).code == 0
    ended = backfill(process, DAYS[0], DAYS[2])
    assert (ended.code, ended.err.count("is finished")) == (0, 1), ended.err
    assert runs(folder) == [(f"day-{day}", "finished") for day in (DAYS[1], DAYS[0], DAYS[2])]
    for day in DAYS:
        lines = (folder / f"out-{day}.jsonl").read_text().splitlines()
        assert [json.loads(line)["state"] for line in lines] == ["succeeded"] * ROWS
    again = backfill(process, DAYS[0], DAYS[2])
    assert (again.code, again.err.count("is finished")) == (0, 3)


def test_one_budget_is_for_all_days_and_the_first_halt_stops(folder: Path, process: Cli) -> None:
    alone = process(*RUN, "--date", DAYS[0], "--db", "alone.db", "--json")
    # Enough for a day and half of another; each request sets more aside than it costs.
    cost_usd = float(json.loads(alone.out)["cost_usd"])
    budget = f"budget.usd={1.5 * cost_usd + 0.001:.6f}"
    ended = backfill(process, DAYS[0], DAYS[2], "--set", budget)
    assert ended.code == 4, ended.err
    assert "orchestrator resume day-2026-11-0" in ended.err
    done = runs(folder)
    assert 1 <= sum(state == "finished" for _, state in done) < len(DAYS)
    assert [name for name, _ in done] == sorted(name for name, _ in done)
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        [(cost,)] = connection.execute("SELECT sum(cost_pusd) FROM charge")
    assert cost <= float(budget.partition("=")[2]) * 1e12
    assert backfill(process, DAYS[0], DAYS[2], "--set", "budget.usd=1").code == 0
    assert runs(folder) == [(f"day-{day}", "finished") for day in DAYS]


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("2026-11-03..2026-11-01", (), "is no range of days"),
        ("2026-11-03", (), "is no range of days"),
        ("2026-11-31..2026-12-01", (), "is no range of days"),
        ("2000-01-01..2026-12-01", (), "more than 3,660 days"),
        ("2026-11-01..2026-11-05", (), 'no file "in-2026-11-04.jsonl"'),
        ("2026-11-01..2026-11-02", ("--run", "x"), "--run cannot be given with --backfill"),
        ("2026-11-01..2026-11-02", ("--date", "2026-11-01"), "--date cannot be given with --backfill"),
    ],
)
def test_a_wrong_range_is_refused_before_anything_is_sent(
    folder: Path, cli: Cli, text: str, more: tuple[str, ...], said: str
) -> None:
    ended = cli(*RUN, "--backfill", text, *more)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not (folder / "runs.db").exists()


def test_days_that_would_pay_for_the_same_rows_are_refused(cli: Cli) -> None:
    ended = cli("run", "job.yaml", "--config", "config.yaml", "--backfill", "2026-11-01..2026-11-02")
    assert (ended.code, "each day would ask the same rows again" in ended.err) == (2, True)
