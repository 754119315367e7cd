"""The section ``increments`` in its spellings, and what of it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import SpecError
from orchestrator.job.increments import Increments
from orchestrator.job.spec import Job, load_job

JOB: dict[str, Any] = {
    "name": "a",
    "input": {"path": "rows.jsonl", "key": "id"},
    "request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 20},
}


@pytest.mark.parametrize(("given", "share"), [("20%", 0.2), ("100 %", 1.0), (0, 0.0), (0.5, 0.5), ("0.25", 0.25)])
def test_a_share_can_be_written_in_several_ways(given: Any, share: float) -> None:
    job = Job.model_validate({**JOB, "increments": {"removed_at_most": given}})
    assert job.increments is not None
    assert job.increments.removed_at_most == pytest.approx(share)
    assert Job.model_validate_json(job.model_dump_json()).increments == job.increments


@pytest.mark.parametrize("given", ["120%", -1, "many", True, None, "nan%", [1]])
def test_no_other_share_is_accepted(given: Any) -> None:
    with pytest.raises(ValueError, match="must be a share from 0% to 100%"):
        Increments.model_validate({"removed_at_most": given})


def test_increments_do_not_make_another_run() -> None:
    assert (
        Job.model_validate({**JOB, "increments": {}}).fingerprint()
        == Job.model_validate({**JOB, "increments": {"removed": "drop"}}).fingerprint()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": {"by": "id"}}, "rows of a chain cannot be compared"),
        ({"retention": {"outputs": "drop"}}, "must be keep beside increments"),
        ({"input": {"path": "rows.jsonl"}}, "increments: needs input.key"),
        ({"increments": {"dataset": "No Name"}}, "increments.dataset"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "One."}')
    (tmp_path / "job.yaml").write_text(json.dumps({**JOB, "increments": {}, **changes}))
    with pytest.raises(SpecError, match=message):
        load_job(tmp_path / "job.yaml")
