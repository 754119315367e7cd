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
    "Keys",
    "Limit",
    "ProgressMode",
    "RunName",
    "RunNameOrNewest",
    "Sandbox",
]

JobFile: TypeAlias = Annotated[Path, Parameter(name="JOB", help="The job file.")]
Limit: TypeAlias = Annotated[int | None, Parameter(metavar="N", help="Read only the first N rows.")]
ProgressMode: TypeAlias = Literal["auto", "bar", "plain", "none"]

Database: TypeAlias = Annotated[
    Path | None,
    Parameter(name="--db", metavar="FILE", help="The database of runs; else $ORCHESTRATOR_DB, else the config's."),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--config",
        metavar="FILE",
        help="Provider, limits, database; else $ORCHESTRATOR_CONFIG, else orchestrator.yaml here or in a folder "
        "above, else the real API with OPENAI_API_KEY. `sandbox` is a rehearsal without a key.",
    ),
]
ConfigOfDatabase: TypeAlias = Annotated[
    Path | None, Parameter(name="--config", metavar="FILE", help="The config that names the database.")
]
Sandbox: TypeAlias = Annotated[
    bool, Parameter(name="--sandbox", help="Rehearse: simulated answers in place of the provider; no key, no cost.")
]
Keys: TypeAlias = Annotated[
    list[str] | None, Parameter(name="--key", metavar="KEY", help="Only the row with this key (repeatable).")
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON object for scripts.")]
RunName: TypeAlias = Annotated[str, Parameter(name="RUN", help="The run's name, as in `orchestrator runs`.")]
RunNameOrNewest: TypeAlias = Annotated[
    str | None, Parameter(name="RUN", help="The run's name; without it the newest run.")
]
