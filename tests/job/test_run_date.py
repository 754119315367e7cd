"""``{{ run.date }}`` in a job file, and the days that ``lookback`` reads."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError, UsageError
from orchestrator.job.rows.keyed_rows import Row, input_identity, open_rows
from orchestrator.job.spec import Job, load_job

DAY = date(2026, 11, 29)
NOW = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(day: date | None = DAY, *, limit: int | None = None, now: datetime = NOW, **fields: Any) -> Job:
        job = {
            "name": "digest",
            "input": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": "gpt-5-mini", "input": "{{ text }}"},
        }
        (tmp_path / "job.yaml").write_text(json.dumps(job | fields))
        return load_job(tmp_path / "job.yaml", day=day, limit=limit, now=now)

    write(tmp_path, "rows", a="1")
    return load


def write(folder: Path, name: str, **texts: str) -> None:
    rows = (json.dumps({"id": key, "text": text}) for key, text in texts.items())
    (folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows))


def texts(job: Job, **options: Any) -> list[tuple[str, str]]:
    return [(row.key, row.data["text"]) for row in open_rows(job, **options) if isinstance(row, Row)]


def test_the_date_stands_in_paths_and_templates(load: Any, tmp_path: Path) -> None:
    (tmp_path / "2026").mkdir()
    write(tmp_path, "2026/11-29", a="1")
    job = load(
        input={"path": "{{ run.date.year }}/{{run.date.month}}-{{ run.date.day }}.jsonl", "key": "id"},
        output="out/{{ run.name }}.jsonl",
        request={"model": "gpt-5-mini", "input": "{{ run.date }}: {{ text }} {{ row.run.date }} run.date"},
    )
    assert job.input.path == "2026/11-29.jsonl"
    assert job.output == "out/digest-2026-11-29.jsonl"
    assert job.request["input"] == '{{ "2026-11-29" }}: {{ text }} {{ row.run.date }} run.date'
    assert (job.day, job.named_run(None, new=False), job.named_run("x", new=False)) == (DAY, "digest-2026-11-29", "x")
    assert job.named_run(None, new=True) is None
    assert Job.model_validate(job.to_store()).to_store() == job.to_store()


def test_a_run_stands_for_a_day_only_if_something_says_so(load: Any) -> None:
    dated = {"request": {"model": "gpt-5-mini", "input": "{{ text }}", "metadata": {"on": "{{ run.date }}"}}}
    assert load(None).day is None
    assert load(None, **dated).day == DAY
    assert load(date(2026, 11, 3)).day == date(2026, 11, 3)
    assert load(limit=3, **dated).day is None
    berlin = {"at": "02:15", "zone": "Europe/Berlin"}
    assert load(None, schedule=berlin).day == date(2026, 11, 30)


def test_a_day_in_the_future_is_refused(load: Any) -> None:
    assert load(date(2026, 11, 30)).day == date(2026, 11, 30)
    with pytest.raises(UsageError, match="in the future"):
        load(date(2026, 12, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"request": {"model": "m", "input": "{{ run.date.hour }}"}}, "has year, month and day, and no hour"),
        ({"request": {"model": "m", "input": "{{ run.date.strftime('%d') }}"}}, "and no strftime"),
        ({"input": {"path": "{{ run.date | upper }}.jsonl"}}, "nothing that computes"),
        ({"output": "{{ run.name ~ 1 }}.jsonl"}, "nothing that computes"),
        ({"input": {"path": "rows.jsonl", "lookback": "3d"}}, "needs a path that names run.date"),
        ({"input": {"path": "{{ run.date }}.jsonl", "lookback": "3 nights"}}, "must be a duration"),
        ({"input": {"path": "{{ run.date }}.jsonl", "lookback": "2000d"}}, "must be at most"),
    ],
)
def test_what_is_wrong_about_a_date(load: Any, fields: dict[str, Any], message: str) -> None:
    for day in (DAY, None):
        with pytest.raises(SpecError, match=message):
            load(day, **fields)


def test_a_date_in_the_request_is_a_warning_where_rows_are_compared(load: Any) -> None:
    dated = {"model": "gpt-5-mini", "input": "{{ run.date }} {{ text }}"}
    tagged = {"model": "gpt-5-mini", "input": "{{ text }}", "metadata": {"on": "{{ run.date }}"}}
    assert [each for each in load(request=dated, increments={}).warnings() if "run.date" in each]
    assert [each for each in load(request=dated, reuse="same-request").warnings() if "run.date" in each]
    assert not load(request=dated).warnings()
    assert not load(request=tagged, increments={}).warnings()


# ── days before ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lookback_reads_the_days_before_and_the_latest_day_counts(load: Any, tmp_path: Path) -> None:
    write(tmp_path, "2026-11-29", a="29", b="29")
    write(tmp_path, "2026-11-27", b="27", c="27")
    write(tmp_path, "2026-11-26", c="26", d="26")
    write(tmp_path, "2026-11-25", e="25")
    job = load(input={"path": "{{ run.date }}.jsonl", "key": "id", "lookback": "3d"})
    assert texts(job) == [("a", "29"), ("b", "29"), ("c", "27"), ("d", "26")]
    for start, left in ((2, ["c", "d"]), (4, ["d"]), (5, ["d"]), (6, [])):
        assert [key for key, _ in texts(job, start=start)] == left
    before = input_identity(job)
    write(tmp_path, "2026-11-26", d="26!")
    assert input_identity(job) != before


def test_the_file_of_the_day_itself_must_be_there(load: Any, tmp_path: Path) -> None:
    write(tmp_path, "2026-11-28", a="28")
    with pytest.raises(SpecError, match=r"2026-11-29\.jsonl"):
        load(input={"path": "{{ run.date }}.jsonl", "key": "id", "lookback": "3d"})


def test_the_file_of_one_day_is_not_all_there_is(load: Any, tmp_path: Path) -> None:
    write(tmp_path, "2026-11-29", a="29")
    path = {"path": "{{ run.date }}.jsonl", "key": "id"}
    assert load(input=path, increments={}).increments.removed == "keep"
    assert load(input=path, increments={"removed": "mark"}).increments.removed == "mark"
    assert load(increments={}).increments.removed == "mark"
