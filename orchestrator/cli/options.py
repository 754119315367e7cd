"""The options that commands share, so that each means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

__all__ = [
    "ConfigFile",
    "ConfigOfDatabase",
    "Database",
    "JobFile",
    "Json",
    "Limit",
    "ProgressMode",
    "RunName",
    "RunNameOrNewest",
]

JobFile: TypeAlias = Annotated[Path, Parameter(name="JOB", help="The job file.")]
Limit: TypeAlias = Annotated[int | None, Parameter(metavar="N", help="Read only the first N rows.")]
ProgressMode: TypeAlias = Literal["auto", "bar", "plain", "none"]

Database: TypeAlias = Annotated[
    Path | None,
    Parameter(name="--db", metavar="FILE", help="The database of runs; else the config's, else orchestrator.db."),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--config",
        metavar="FILE",
        help="Provider, limits, database; else the real API with OPENAI_API_KEY.",
    ),
]
ConfigOfDatabase: TypeAlias = Annotated[
    Path | None, Parameter(name="--config", metavar="FILE", help="The config that names the database.")
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON object for scripts.")]
RunName: TypeAlias = Annotated[str, Parameter(name="RUN", help="The run's name, as in `orchestrator runs`.")]
RunNameOrNewest: TypeAlias = Annotated[
    str | None, Parameter(name="RUN", help="The run's name; without it the newest run.")
]
