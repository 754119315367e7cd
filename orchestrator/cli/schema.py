"""``schema``: what an editor needs to check and complete job and config files."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.output import say_json

__all__ = ["schema"]


def schema(kind: Annotated[Literal["job", "config"], Parameter(name="KIND", help="Which file.")], /) -> None:
    """Print the JSON Schema of job or config files."""
    if kind == "job":
        from orchestrator.job.schema import job_schema

        say_json(job_schema())
    else:
        from orchestrator.config import config_schema

        say_json(config_schema())
