"""Rows looked at without storing them: all, an even sample, or the first few."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.app.forecast.sample import EvenSample, glance, requests_of
from orchestrator.core.errors import BadRow
from orchestrator.job.requests.compose import RequestRules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import Job, load_job


def a_job(folder: Path, lines: list[str], *, path: str = "rows.jsonl", **changes: object) -> Job:
    text = "".join(f"{line}\n" for line in lines)
    data = gzip.compress(text.encode(), mtime=0) if path.endswith(".gz") else text.encode()
    (folder / path).write_bytes(data)
    spec = {
        "name": "j",
        "input": {"path": path, **changes},
        "request": {"model": "gpt-5-mini", "input": "{{ text }}"},
    }
    (folder / "job.yaml").write_text(json.dumps(spec))
    return load_job(folder / "job.yaml")


def rows(number: int) -> list[str]:
    return [json.dumps({"text": f"row number {n:06}", "unused": "x" * 50}) for n in range(number)]


def after(calls: int) -> Callable[[], bool]:
    """Says that it is enough when it has been asked so many times."""
    asked = iter(range(1, 10**9))
    return lambda: next(asked) >= calls


# ── even samples ──────────────────────────────────────────────────────────────────────────────────────────────


def taken(number: int, most: int) -> list[int]:
    sample: EvenSample[int] = EvenSample(most)
    for thing in range(number):
        if sample.wants_next:
            sample.keep(thing)
        else:
            sample.pass_over()
    assert sample.seen == number
    return sample.kept


def test_few_things_are_all_kept() -> None:
    assert taken(19, 10) == list(range(19))


@pytest.mark.parametrize("number", [20, 100, 999, 12_345])
def test_many_things_are_kept_at_even_distances(number: int) -> None:
    kept = taken(number, 10)
    assert 10 <= len(kept) < 20
    steps = {later - earlier for earlier, later in itertools.pairwise(kept)}
    assert len(steps) == 1
    assert kept[0] == 0
    assert kept[-1] + steps.pop() >= number


# ── all rows ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_gives_its_request(tmp_path: Path) -> None:
    job = a_job(tmp_path, rows(3))
    assert [render()["input"] for render in requests_of(job, Renderer(job), RequestRules())] == [
        "row number 000000",
        "row number 000001",
        "row number 000002",
    ]


def test_a_bad_row_stops_it_as_it_would_a_run(tmp_path: Path) -> None:
    lines = [*rows(1), "not JSON", '{"other": 1}', *rows(1)]
    job = a_job(tmp_path, lines)
    with pytest.raises(BadRow):
        list(requests_of(job, Renderer(job), RequestRules()))
    lenient = a_job(tmp_path, lines, on_bad_row="skip")
    assert len(list(requests_of(lenient, Renderer(lenient), RequestRules()))) == 2


# ── the first rows ────────────────────────────────────────────────────────────────────────────────────────────


def glanced(job: Job, calls: int, *, most: int = 1_000) -> tuple[int, int | None, bool]:
    found = glance(
        job, Renderer(job), lambda fields: fields["input"], most=most, enough=after(calls), rules=RequestRules()
    )
    return len(found.things), found.rows, found.counted


def test_a_small_input_is_read_whole(tmp_path: Path) -> None:
    assert glanced(a_job(tmp_path, rows(10)), 100) == (10, 10, True)


def test_of_more_rows_than_need_be_measured_the_rest_is_counted(tmp_path: Path) -> None:
    lines = [line for row in rows(500) for line in (row, "not JSON")]
    assert glanced(a_job(tmp_path, lines), 2_000, most=100) == (100, 503, True)


@pytest.mark.parametrize("path", ["rows.jsonl", "rows.jsonl.gz"])
def test_the_rest_follows_from_the_size_of_the_file(tmp_path: Path, path: str) -> None:
    measured, about, counted = glanced(a_job(tmp_path, rows(20_000), path=path), 50)
    assert (measured, counted) == (50, False)
    assert about is not None
    assert 16_000 <= about <= 24_000


def test_bad_rows_are_passed_over_and_taken_to_be_as_frequent_later(tmp_path: Path) -> None:
    lines = [line for row in rows(2_000) for line in (row, "not JSON" + " " * 70)]
    measured, about, _ = glanced(a_job(tmp_path, lines), 100)
    assert measured == 50
    assert about is not None
    assert 1_800 <= about <= 2_200


def test_rows_of_several_lines_count_once(tmp_path: Path) -> None:
    lines = ["text", *(f'"row {n:06}\nsecond line\nthird line"' for n in range(3_000))]
    _, about, _ = glanced(a_job(tmp_path, lines, path="rows.csv"), 200)
    assert about is not None
    assert 2_700 <= about <= 3_300


def test_a_limit_is_an_end(tmp_path: Path) -> None:
    assert glanced(a_job(tmp_path, rows(500), limit=60), 20) == (20, 60, False)


def test_an_empty_input_has_no_rows(tmp_path: Path) -> None:
    assert glanced(a_job(tmp_path, []), 5) == (0, 0, True)
