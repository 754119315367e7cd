"""Reports failures: what, where and what to do on standard error, and an exit code for scripts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

import orchestrator
from orchestrator.cli.output import note
from orchestrator.cli.resume_hint import with_given_options
from orchestrator.core.errors import ExitCode, OrchestratorError

__all__ = ["report_bug", "report_misuse", "report_problem"]

_SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSW|PROXY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8
DEBUG_VARIABLE = "ORCHESTRATOR_DEBUG"


def report_problem(error: OrchestratorError) -> int:
    """Report something that the user can fix."""
    note(f"error: {with_given_options(str(error), sys.argv[1:])}")
    return error.exit_code


def report_misuse(error: CycloptsError) -> int:
    """Report a command line that cannot be understood."""
    error.verbose = False
    chain = " ".join(["orchestrator", *(error.command_chain or ())])
    note(f"error: {_misunderstood(error, chain)}\n  hint: {chain} --help")
    return ExitCode.USAGE


def _misunderstood(error: CycloptsError, chain: str) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{chain} has no use for {' '.join(map(repr, error.unused_tokens))}"
    missing = type(error) is MissingArgumentError and not error.keyword and error.argument
    if missing and not missing.name.startswith("-"):
        return f"{chain} needs {missing.name}"
    return str(error).rstrip()


def report_bug(error: BaseException) -> int:
    """Report a bug of this program: its kind and place only, because its message might quote a prompt."""
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        note(_without_secrets("".join(traceback.format_exception(error))))
    note(
        f"error: this is a bug in orchestrator: {type(error).__name__} at {_place(error)}\n"
        f"  hint: what is stored is safe; {DEBUG_VARIABLE}=1 shows the traceback (it may hold texts of yours)"
    )
    return ExitCode.BUG


def _without_secrets(text: str) -> str:
    """A text without the values of the environment variables whose names say that they hold secrets."""
    from urllib.parse import quote

    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            for written in {value, value.strip("\"'` \r\n"), quote(value, safe="")}:
                text = text.replace(written, "[redacted]")
    return text


def _place(error: BaseException) -> str:
    """The innermost line of this package that was running."""
    from traceback import walk_tb

    home = Path(orchestrator.__file__).parent
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    if not frames:
        return "an unknown place"
    ours = [(path, line) for path, line in frames if path.is_relative_to(home)]
    path, line = (ours or frames)[-1]
    return f"{path.relative_to(home.parent) if ours else path.name}:{line}"
