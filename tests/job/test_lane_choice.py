"""The lane of a job, and what of a request does not fit it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.lanes import Lane
from orchestrator.job.requests.lane_fields import in_lane, lane_of, priced_in_lane
from orchestrator.job.requests.local_files import FileToUpload
from orchestrator.job.spec import Job
from orchestrator.job.stages.stage_jobs import stage_job

REQUEST = {"model": "m", "input": "x"}
JOB: dict[str, Any] = {"name": "a", "input": {"path": "a.jsonl"}, "request": REQUEST}
WINDOW = {"background_options": {"completion_window": "2h"}}


def test_a_job_without_a_lane_is_sent_to_the_background() -> None:
    assert Job.model_validate(JOB).lane == "background"


def test_the_lane_is_no_part_of_what_is_asked() -> None:
    plain = Job.model_validate(JOB).fingerprint()
    assert Job.model_validate({**JOB, "lane": "window-8h"}).fingerprint() == plain
    stages = {"one": {"from": "input", "request": REQUEST}}
    by_stage = {"name": "a", "input": {"path": "a.jsonl"}, "stages": stages}
    other = {**by_stage, "stages": {"one": {**stages["one"], "lane": "sync"}}}
    assert Job.model_validate(by_stage).fingerprint() == Job.model_validate(other).fingerprint()


def test_a_stage_has_the_lane_of_its_job_or_its_own() -> None:
    stages = {
        "one": {"from": "input", "request": REQUEST},
        "two": {"from": "one", "request": REQUEST, "lane": "sync"},
    }
    job = Job.model_validate({"name": "a", "input": {"path": "a.jsonl"}, "lane": "flex", "stages": stages})
    assert [stage_job(job, name).lane for name in ("one", "two")] == ["flex", "sync"]


@pytest.mark.parametrize(
    ("lane", "more", "field"),
    [
        ("pigeon", {}, "lane"),
        ("sync", {"stream": True}, "lane"),
        ("auto", {"stream": True}, "lane"),
        ("auto", {"request": {**REQUEST, "service_tier": "priority"}}, "service_tier"),
        ("flex", {"request": {**REQUEST, "service_tier": "priority"}}, "service_tier"),
        ("window-8h", {"request": {**REQUEST, **WINDOW}}, "background_options"),
        ("flex", {"request": {**REQUEST, **WINDOW}}, "background_options"),
        ("sync", {"request": {**REQUEST, **WINDOW}}, "background_options"),
    ],
)
def test_what_does_not_fit_a_lane_is_refused(lane: str, more: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Job.model_validate({**JOB, **more, "lane": lane})


@pytest.mark.parametrize(
    ("lane", "request_"),
    [
        ("background", {**REQUEST, **WINDOW}),
        ("window-2h", {**REQUEST, **WINDOW}),
        ("flex", {**REQUEST, "service_tier": "flex"}),
        ("sync", {**REQUEST, "service_tier": "priority"}),
        ("auto", {**REQUEST, "service_tier": "auto"}),
    ],
)
def test_what_says_the_same_as_the_lane_is_accepted(lane: str, request_: dict[str, Any]) -> None:
    assert Job.model_validate({**JOB, "request": request_, "lane": lane}).lane == lane


def test_a_lane_sets_the_fields_that_decide_its_price() -> None:
    fields = {**REQUEST, "background_options": {"continuation_id": "c"}}
    assert in_lane(fields, Lane.WINDOW_2H)["background_options"] == {
        "continuation_id": "c",
        "completion_window": "2h",
    }
    assert in_lane(REQUEST, Lane.WINDOW_8H)["background_options"] == {"completion_window": "8h"}
    assert in_lane(REQUEST, Lane.FLEX) == {**REQUEST, "service_tier": "flex"}
    for lane in (Lane.BACKGROUND, Lane.SYNC):
        assert in_lane(fields, lane) == fields


@pytest.mark.parametrize("beside", [{"stream": True}, {"chain": {"by": "topic"}}])
def test_a_batch_has_neither_streams_nor_chains(beside: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="cannot be batch beside"):
        Job.model_validate({**JOB, "lane": "batch", **beside})


def test_a_request_that_cannot_be_a_line_goes_to_the_background() -> None:
    upload = FileToUpload.__new__(FileToUpload)
    with_file = {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": upload}]}]}
    assert lane_of(Lane.BATCH, REQUEST, continues=False) is Lane.BATCH
    assert lane_of(Lane.BATCH, REQUEST, continues=True) is Lane.BACKGROUND
    assert lane_of(Lane.BATCH, with_file, continues=False) is Lane.BACKGROUND
    assert lane_of(Lane.FLEX, with_file, continues=True) is Lane.FLEX


def test_a_line_is_priced_as_a_batch_and_does_not_say_so() -> None:
    assert priced_in_lane(REQUEST, Lane.BATCH) == {**REQUEST, "service_tier": "batch"}
    assert priced_in_lane(REQUEST, Lane.FLEX) == REQUEST
    assert in_lane(REQUEST, Lane.BATCH) == REQUEST
