"""The section ``retention`` in its spellings, and what of it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.retention import DeleteAfter, RetentionSection
from orchestrator.job.spec import Job, load_job

JOB: dict[str, Any] = {
    "name": "a",
    "input": {"path": "rows.jsonl"},
    "request": {"model": "gpt-5-mini", "input": "{{ text }}"},
}


def a_job(**retention: Any) -> Job:
    return Job.model_validate({**JOB, "retention": retention})


def test_everything_is_kept_unless_something_else_is_said() -> None:
    assert Job.model_validate(JOB).retention == RetentionSection()


@pytest.mark.parametrize("provider", [{"delete_after": "7d"}, "delete_after 7d"])
def test_a_time_can_be_written_in_two_ways(provider: Any) -> None:
    job = a_job(provider=provider)
    assert job.retention.provider == DeleteAfter(delete_after=604_800.0)
    assert Job.model_validate_json(job.model_dump_json()).retention == job.retention


def test_retention_does_not_make_another_run() -> None:
    assert a_job(provider="delete_after_export", inputs="drop").fingerprint() == Job.model_validate(JOB).fingerprint()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("provider: delete", "retention.provider: must be keep, delete_after_export or {delete_after: 7d}"),
        ("provider: delete_after soon", "retention.provider: must be a duration"),
        ("provider: {delete_after: 0}", "retention.provider.delete_after: must be more than 0"),
        ("inputs: delete", "retention.inputs: must be 'keep' or 'drop'"),
        ("output: drop", "there is no such field"),
    ],
)
def test_what_it_cannot_be_is_reported_with_its_line(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    text = "name: a\ninput: {path: rows.jsonl}\nrequest: {model: gpt-5-mini, input: x}\nretention:\n"
    (tmp_path / "job.yaml").write_text(f"{text}  {lines}\n")
    with pytest.raises(SpecError) as refused:
        load_job(tmp_path / "job.yaml")
    assert message in str(refused.value)
    assert "job.yaml:" in str(refused.value)


def test_waiting_for_an_export_without_an_output_is_warned_about() -> None:
    assert "names no output" in a_job(outputs="drop").warnings()[0]
    named = Job.model_validate({**JOB, "output": "out.jsonl", "retention": {"outputs": "drop"}})
    assert named.warnings() == []
