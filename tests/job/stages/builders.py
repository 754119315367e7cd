"""Pipelines for tests, as a user would write them."""

from __future__ import annotations

from typing import Any

from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline

__all__ = ["a_job", "a_pipeline", "a_request", "digest_stages"]


def a_request(template: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "input": template, "max_output_tokens": 100, **more}


def digest_stages(**changes: Any) -> dict[str, Any]:
    """Texts are split, each part is asked, the parts of a text are combined, and the texts of a section too."""
    stages: dict[str, Any] = {
        "parts": {"from": "input", "expand": {"text": "{{ body }}", "max_tokens": 4}},
        "facts": {"from": "parts", "request": a_request("{{ part_number }}/{{ part_count }} {{ part }}")},
        "article": {
            "from": "facts",
            "group_by": "parent",
            "request": a_request("{{ title }}{% for row in rows %} {{ row.facts }}{% endfor %}"),
        },
        "digest": {
            "from": "article",
            "group_by": "section",
            "request": a_request("{{ section }}{% for row in rows %} {{ row.article }}{% endfor %}"),
        },
    }
    return stages | changes


def a_job(stages: dict[str, Any], **more: Any) -> Job:
    return Job.model_validate(
        {"name": "a", "input": {"path": "-", "format": "jsonl", "key": "id"}, "stages": stages, **more}
    )


def a_pipeline(stages: dict[str, Any] | None = None) -> Pipeline:
    return Pipeline(a_job(stages or digest_stages()))
