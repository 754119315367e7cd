"""A first project: the files to start from, in a folder that may hold others already."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import orjson

from orchestrator.config import config_schema
from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.schema import job_schema

__all__ = ["ProjectFile", "create_project", "template"]


@fast_dataclass(kw_only=False)
class ProjectFile:
    """A file of a new project; one that was there already is not written."""

    path: Path
    purpose: str
    written: bool


def create_project(folder: Path) -> list[ProjectFile]:
    """Writes the files of a first project; overwrites none. Raises ``UsageError`` if the folder cannot be used."""
    try:
        return [_create(folder / name, purpose, content) for name, purpose, content in _FILES]
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be created: {error.strerror}") from None


def template(name: str) -> bytes:
    """The content of a file that is shipped with the package."""
    return (resources.files("orchestrator") / "templates" / name).read_bytes()


def _create(path: Path, purpose: str, content: Callable[[], bytes]) -> ProjectFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(content())
    except FileExistsError:
        return ProjectFile(path, purpose, written=False)
    return ProjectFile(path, purpose, written=True)


_FILES: tuple[tuple[str, str, Callable[[], bytes]], ...] = (
    ("job.yaml", "what to ask of each row", lambda: template("job.yaml")),
    ("rows.csv", "ten rows to try it with", lambda: template("rows.csv")),
    ("sandbox.yaml", "a config for rehearsals, with faults", lambda: template("sandbox.yaml")),
    (".gitignore", "keeps databases and keys out of a repository", lambda: template("gitignore")),
    (".orchestrator/job.schema.json", "for editors: checks and completes jobs", lambda: orjson.dumps(job_schema())),
    (
        ".orchestrator/config.schema.json",
        "for editors: checks and completes configs",
        lambda: orjson.dumps(config_schema()),
    ),
)
