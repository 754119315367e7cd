"""``run --due``: a night that is due is run once, whatever calls for it and however often."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.notify.receiver import Receiver, receiving

from .conftest import ROWS, Ended

Cli: TypeAlias = Callable[..., Ended]

DUE = ("run", "--due", "job.yaml", "--config", "config.yaml", "--progress", "none")
NOW = datetime.now(UTC)
AN_HOUR_AGO, IN_AN_HOUR = ((NOW + timedelta(hours=hours)) for hours in (-1, 1))


@pytest.fixture
def receiver(folder: Path) -> Iterator[Receiver]:
    """A receiver of what the config notifies of."""
    with receiving() as receiver:
        rule = {"on": ["finished", "halted", "late", "broken"], "webhook": receiver.url}
        (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + f"notify: [{json.dumps(rule)}]\n")
        yield receiver


def schedule(folder: Path, *, job: str = "job.yaml", at: datetime = AN_HOUR_AGO, **more: Any) -> None:
    section = {"at": f"{at:%H:%M}", "zone": "UTC"} | more
    text = (folder / "job.yaml").read_text().split("schedule:")[0].replace("greet", job.removesuffix(".yaml"), 1)
    (folder / job).write_text(text + f"schedule: {json.dumps(section)}\n")


def events(receiver: Receiver) -> list[str]:
    return [json.loads(each.body)["event"] for each in receiver.deliveries]


def runs(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        return connection.execute("SELECT name, state FROM run ORDER BY id").fetchall()


def test_a_night_is_run_once_and_a_broken_file_is_reported_once(
    folder: Path, process: Cli, cli: Cli, receiver: Receiver
) -> None:
    schedule(folder)
    first = process(*DUE, "--json")
    assert first.code == 0, first.err
    day = f"{AN_HOUR_AGO:%Y-%m-%d}"
    summary = json.loads(first.out)
    assert (summary["run"], summary["date"], summary["resume_at"]) == (f"job-{day}", day, None)
    assert summary["requests"]["succeeded"] == ROWS
    for _ in range(3):
        again = cli(*DUE)
        assert (again.code, again.out) == (0, "")
        assert f"job.yaml: job-{day} is finished; next at" in again.err
    assert runs(folder) == [(f"job-{day}", "finished")]

    good = (folder / "job.yaml").read_text()
    for broken in (f"{good}max_turns: canary\n", f"{good}max_turns: 0\n"):
        (folder / "job.yaml").write_text(broken)
        codes = [cli(*DUE).code for _ in range(3)]
        assert codes == [2, 0, 0]
    (folder / "job.yaml").write_text(good)
    assert json.loads(cli(*DUE, "--json").out)["reason"] == f"job-{day} is finished"
    assert events(receiver) == ["finished", "broken", "broken"]
    assert len({each.headers["webhook-id"] for each in receiver.deliveries}) == 3
    assert not any(b"canary" in each.body for each in receiver.deliveries)


def test_a_used_up_budget_of_the_day_is_waited_for(folder: Path, process: Cli, cli: Cli, receiver: Receiver) -> None:
    schedule(folder)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config + "budget: {usd_per_day: 0.003}\n")
    ended = process(*DUE, "--json")
    assert ended.code == 4, ended.err
    assert f"orchestrator resume job-{AN_HOUR_AGO:%Y-%m-%d} --config config.yaml" in ended.err
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    assert json.loads(ended.out)["resume_at"] == f"{tomorrow}T00:00:00Z"
    waiting = cli(*DUE, "--json")
    assert waiting.code == 0
    assert json.loads(waiting.out)["until"] == f"{tomorrow}T00:00:00Z"
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute("UPDATE run SET resume_at = 0")
        connection.commit()
    (folder / "config.yaml").write_text(config)
    assert process(*DUE).code == 0
    assert [state for _, state in runs(folder)] == ["finished"]
    assert events(receiver) == ["halted", "finished"]


def test_two_calls_at_once_are_one_night(folder: Path, process: Cli, receiver: Receiver) -> None:
    schedule(folder)
    with ThreadPoolExecutor(2) as threads:
        both = [*threads.map(lambda _: process(*DUE), range(2))]
    assert [each.code for each in both] == [0, 0], both
    assert len(runs(folder)) == 1
    assert events(receiver) == ["finished"]
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM attempt").fetchone() == (ROWS,)


def test_nothing_is_begun_after_the_end_of_the_night(folder: Path, cli: Cli, receiver: Receiver) -> None:
    schedule(folder, at=NOW - timedelta(hours=3), until=f"{AN_HOUR_AGO:%H:%M}", late_after=f"{AN_HOUR_AGO:%H:%M}")
    for _ in range(2):
        ended = cli(*DUE)
        assert ended.code == 0
        assert "nothing is sent after" in ended.err
    assert events(receiver) == ["late"]
    [late] = [json.loads(each.body) for each in receiver.deliveries]
    assert (
        late["subject"] == f"job-{NOW - timedelta(hours=3):%Y-%m-%d} late: is not finished after {AN_HOUR_AGO:%H:%M}"
    )


def test_one_job_does_not_keep_the_others_from_being_run(folder: Path, process: Cli, cli: Cli) -> None:
    schedule(folder, job="good.yaml")
    (folder / "bad.yaml").write_text("name: [")
    ended = process("run", "--due", "bad.yaml", "job.yaml", "good.yaml", "--config", "config.yaml")
    assert ended.code == 2
    assert "bad.yaml" in ended.err
    assert "the job has no schedule" in ended.err
    assert [state for _, state in runs(folder)] == ["finished"]
    assert cli("run", "--due", "bad.yaml", "job.yaml", "good.yaml", "--config", "config.yaml").code == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--limit", "3"),
        ("--run", "x"),
        ("--date", "2026-11-01"),
        ("--dry-run",),
        ("--new",),
        ("--set", "deadline=1h"),
    ],
)
def test_a_night_that_is_due_is_as_its_job_says(folder: Path, cli: Cli, option: tuple[str, ...]) -> None:
    schedule(folder)
    ended = cli(*DUE, *option)
    assert ended.code == 2
    assert f"{option[0]} cannot be given with --due" in ended.err


def test_several_jobs_need_due(folder: Path, cli: Cli) -> None:
    ended = cli("run", "job.yaml", "job.yaml", "--config", "config.yaml")
    assert ended.code == 2
    assert "only one job" in ended.err
