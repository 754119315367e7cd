"""The commands that a message can offer: exactly what to type next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["program", "resume_command"]


def program() -> str:
    """How this process was called: ``orchestrator`` where that is on the path, else what would find it again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.orig_argv[0])} -m orchestrator"
    found = shutil.which("orchestrator")
    if found and called.exists() and Path(found).samefile(called):
        return "orchestrator"
    return shlex.quote(sys.argv[0])


def resume_command(called_as: str, arguments: Sequence[str], run: str) -> str:
    """The same command line, set on the run that was just left: quoted for a shell, without ``--new``."""
    kept: list[str] = []
    skip_value = False
    for argument in arguments:
        if skip_value:
            skip_value = False
        elif argument == "--run":
            skip_value = True
        elif argument != "--new" and not argument.startswith("--run="):
            kept.append(argument)
    return f"{called_as} {shlex.join([*kept, '--run', run])}"
