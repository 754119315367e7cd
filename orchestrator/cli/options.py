"""The options that commands share, so that each means the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from orchestrator.core.errors import UsageError

__all__ = [
    "ConfigFile",
    "ConfigOfDatabase",
    "Database",
    "Day",
    "JobFile",
    "Json",
    "Keys",
    "Limit",
    "MoreJobs",
    "ProgressMode",
    "RunName",
    "RunNameOrNewest",
    "Sandbox",
    "StageOfRow",
]


def _day(_: type, tokens: Sequence[Any]) -> date:
    text = tokens[0].value
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text}: is no day", hint="write it as 2026-11-29") from None


JobFile: TypeAlias = Annotated[Path, Parameter(name="JOB", help="The job file.")]
Day: TypeAlias = Annotated[
    date | None,
    Parameter(
        name="--date",
        metavar="DATE",
        converter=_day,
        help="The day for which the run stands, {{ run.date }} in the job; without it today.",
    ),
]
MoreJobs: TypeAlias = Annotated[Path, Parameter(name="JOB", help="More job files, with --due.")]
Limit: TypeAlias = Annotated[int | None, Parameter(metavar="N", help="Read only the first N rows.")]
ProgressMode: TypeAlias = Literal["auto", "bar", "plain", "none"]

Database: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--db",
        metavar="FILE|URL",
        help="The database of runs, a file or postgresql://…; else $ORCHESTRATOR_DB, else the config's.",
    ),
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
StageOfRow: TypeAlias = Annotated[
    str | None,
    Parameter(name="--stage", metavar="NAME", help="The stage of the row, if several stages have one of that key."),
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON object for scripts.")]
RunName: TypeAlias = Annotated[str, Parameter(name="RUN", help="The run's name, as in `orchestrator runs`.")]
RunNameOrNewest: TypeAlias = Annotated[
    str | None, Parameter(name="RUN", help="The run's name; without it the newest run.")
]
