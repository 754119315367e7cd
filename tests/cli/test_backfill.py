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


def job_with(folder: Path, **fields: object) -> None:
    job = json.loads((folder / "day.yaml").read_text())
    (folder / "day.yaml").write_text(json.dumps(job | fields))


def query(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        found = connection.execute(sql).fetchall()
        connection.commit()
    return found


def test_a_rest_of_the_budget_too_small_for_a_request_fails_no_row(folder: Path, cli: Cli) -> None:
    assert cli(*RUN, "--date", DAYS[0]).code == 0
    [(cost,)] = query(folder, "SELECT sum(cost_pusd) FROM charge")
    assert isinstance(cost, int)
    # The worst case of one request fits the budget, and not what is left of it.
    budget = f"budget.usd={max(0.0012, cost / 1e12 + 0.0001):.12f}"
    ended = cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[2]}", "--set", budget)
    assert ended.code == 4, ended.err
    assert query(folder, "SELECT count(*) FROM request WHERE state = 'failed'") == [(0,)]
    assert runs(folder) == [(f"day-{DAYS[0]}", "finished"), (f"day-{DAYS[1]}", "halted")]
    used = cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[2]}", "--set", f"budget.usd={cost / 1e12:.12f}")
    assert (used.code, "is not worked on" in used.err) == (4, True), used.err


def test_a_day_that_a_later_night_took_over_is_run_again(folder: Path, cli: Cli) -> None:
    job_with(folder, increments={})
    assert cli(*RUN, "--date", DAYS[0]).code == 0
    query(folder, "UPDATE run SET state = 'cancelled', reason = 'taken over by day-2026-11-02'")
    assert cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[0]}").code == 0
    assert runs(folder) == [(f"day-{DAYS[0]}", "cancelled"), (f"day-{DAYS[0]}-2", "finished")]
    again = cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[0]}")
    assert f"day-{DAYS[0]}-2 is finished" in again.err
    # It asks only what is not answered.
    assert query(folder, "SELECT count(*) FROM attempt") == [(ROWS,)]


@pytest.mark.parametrize("lookback", [None, "1d"])
def test_rows_that_a_later_night_does_not_read_are_named(folder: Path, cli: Cli, lookback: str | None) -> None:
    job_with(folder, increments={}, budget={"usd": 0.0012})
    assert cli(*RUN, "--date", DAYS[0]).code == 4
    more = {} if lookback is None else {"lookback": lookback}
    job_with(folder, input={"path": "in-{{ run.date }}.jsonl", "key": "id", **more}, budget={"usd": 1})
    # By keys of its own, so that the day before is not replaced.
    (folder / f"in-{DAYS[1]}.jsonl").write_text('{"id": "another", "text": "Of the second day."}\n')
    night = cli(*RUN, "--date", DAYS[1])
    assert night.code == 0, night.err
    assert (f"--backfill {DAYS[0]}..{DAYS[0]}" in night.err) == (lookback is None)
    assert cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[0]}").code in (0, 3)
    assert query(folder, "SELECT count(*) FROM entry WHERE answered_at IS NOT NULL") == [(ROWS + 1,)]


def test_answers_of_newer_days_stay_and_an_unfinished_one_is_not_taken_over(folder: Path, cli: Cli) -> None:
    job_with(folder, increments={})
    assert cli(*RUN, "--date", DAYS[2]).code == 0
    query(folder, "UPDATE run SET state = 'halted', reason = 'key'")
    refused = cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[1]}")
    assert (refused.code, f"day-{DAYS[2]} of another day is not finished" in refused.err) == (2, True)
    query(folder, "UPDATE run SET state = 'finished', reason = NULL")
    assert cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[1]}").code in (0, 3)
    newest = "SELECT DISTINCT run_id FROM entry JOIN request ON request.id = entry.request_id"
    assert query(folder, newest) == [(1,)]


def test_only_the_days_of_the_schedule_are_run(folder: Path, cli: Cli) -> None:
    job_with(folder, schedule={"at": "15 2 * * mon-sat", "zone": "Europe/Berlin"})
    assert cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[1]}").code == 0
    assert runs(folder) == [(f"day-{DAYS[1]}", "finished")]
    sunday = cli(*RUN, "--backfill", f"{DAYS[0]}..{DAYS[0]}")
    assert (sunday.code, "no day of the range is in the schedule" in sunday.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("2026-11-03..2026-11-01", (), "is no range of days"),
        ("2026-11-03", (), "is no range of days"),
        ("2026-11-31..2026-12-01", (), "is no range of days"),
        ("2000-01-01..2026-12-01", (), "more than 3,660 days"),
        ("2026-11-01..2026-11-05", (), 'no file "in-2026-11-04.jsonl"'),
        ("2026-11-01..2026-11-02", ("--run", "x"), "--run cannot be given with --backfill"),
        ("2026-11-01..2026-11-02", ("--limit", "1"), "--limit cannot be given with --backfill"),
        ("2026-11-01..2026-11-02", ("--set", "request.model=m"), "--set request.model=m cannot be given"),
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
