"""Which jobs several processes can share, and what each of them may use."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Config, Job
from orchestrator.app.split_runs import refuse_split, worker_config
from orchestrator.core.errors import UsageError

JOB = {
    "name": "demo",
    "input": {"path": "rows.jsonl", "key": "id"},
    "request": {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 100},
}


def _config(**sections: Any) -> Config:
    return Config.model_validate({"provider": {"base_url": "http://127.0.0.1:1/v1"}, **sections})


def test_a_plain_job_can_be_shared() -> None:
    refuse_split(Job.model_validate(JOB), _config())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lane": "sync"}, "lane: sync"),
        ({"lane": "batch"}, "lane: batch"),
        ({"reuse": "same-request"}, "reuse: same-request"),
        ({"chain": {"by": "text", "order": "id"}}, "chain"),
        ({"stream": True}, "stream"),
    ],
)
def test_a_job_that_cannot_be_shared_is_refused_with_what_stands_against_it(
    change: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=f"cannot share a job with {named}") as refused:
        refuse_split(Job.model_validate(JOB | change), _config())
    assert "without --workers" in (refused.value.hint or "")


def test_the_parts_of_the_limits_are_together_no_more_than_the_whole() -> None:
    config = _config(limits={"requests_per_minute": 1_000, "polls_per_minute": 100, "max_in_flight": 2})
    part = worker_config(config, 3).limits
    assert (part.requests_per_minute, part.polls_per_minute, part.tokens_per_minute) == (333, 33, None)
    assert part.max_in_flight == 1, "each can send"
    assert config.limits.requests_per_minute == 1_000
