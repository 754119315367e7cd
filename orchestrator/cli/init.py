"""``init``: writes the files of a first project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orchestrator.cli.output import say

__all__ = ["init"]


def init(
    folder: Annotated[
        Path, Parameter(name="DIR", help="The folder, created if absent; without it this one.")
    ] = Path(),
    /,
) -> None:
    """Write a job, sample rows and a config for rehearsals; nothing is overwritten."""
    from rich.text import Text

    from orchestrator.app.project import create_project

    text = Text()
    files = create_project(folder)
    width = max(len(str(file.path)) for file in files)
    for file in files:
        text.append("written  " if file.written else "kept     ", "green" if file.written else "dim")
        text.append(f"{file.path!s:<{width}}  {file.purpose}\n")
    text.append("\nTry it, without a key and without cost:\n")
    enter = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(os.fspath(folder))} && "
    text.append(f"  {enter}orchestrator run job.yaml --sandbox", "bold")
    say(text)
