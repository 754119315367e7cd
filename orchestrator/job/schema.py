"""The job file's JSON Schema, for editors that complete and check as one types."""

from __future__ import annotations

from typing import Any

from orchestrator.job.requests.parameters import PARAMETERS, WRONG_PARAMETERS
from orchestrator.job.spec import Job

__all__ = ["DIALECT", "job_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """The schema of a job file: every field with its description; request fields that are wrong are marked so."""
    schema = {"$schema": DIALECT, **Job.model_json_schema()}
    request = schema["properties"]["request"]
    request["properties"] = {
        **{name: {"description": about} for name, about in PARAMETERS.items()},
        **{name: {"not": {}, "description": f"not a parameter: {hint}"} for name, hint in WRONG_PARAMETERS.items()},
    }
    return schema
