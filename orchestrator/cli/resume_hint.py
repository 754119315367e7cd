"""The commands that a message can offer: exactly what to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["program", "resume_command"]


def program() -> str:
    """How this process was called: ``orchestrator`` where that is on the path, else what would find it again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.orig_argv[0])} -m orchestrator"
    import shutil

    found = shutil.which("orchestrator")
    if found and called.exists() and Path(found).samefile(called):
        return "orchestrator"
    return shlex.quote(sys.argv[0])


def resume_command(called_as: str, arguments: Sequence[str], run: str, *, budget_usd: str | None = None) -> str:
    """The same command line for the run that just stopped: quoted for a shell, without ``--new``.

    ``budget_usd`` replaces the budget that was given.
    """
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, separator, value = argument.partition("=")
        if option in {"--run", "--set"} and not separator:
            value = next(rest, "")
        if option == "--set":
            keeps = budget_usd is None or value.partition("=")[0].strip() != "budget.usd"
            kept += ["--set", value] if keeps else []
        elif option not in {"--run", "--new"}:
            kept.append(argument)
    changed = [] if budget_usd is None else ["--set", f"budget.usd={budget_usd}"]
    return f"{called_as} {shlex.join([*kept, *changed, '--run', run])}"
