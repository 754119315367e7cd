"""The commands that a message can offer: exactly what to type next."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.stores.database_address import shown_address

__all__ = ["command", "given_option", "program", "resume_command", "with_given_options", "without_option"]

# The options that say which database a command is about; a command that is offered repeats them as they were given.
_PLACE = ("--db", "--config")
_REHEARSAL = "--sandbox"
_REHEARSED = ("run", "resume", "doctor", "estimate")
_WITH_DATABASE = "run|resume|retry|cancel|purge|remove|status|runs|show|follow|export|report|costs|doctor|estimate"
_OFFERED = re.compile(rf"\borchestrator ({_WITH_DATABASE})\b(?! (?:--db|--config))")


def given_option(name: str, arguments: Sequence[str]) -> str | None:
    """The value of an option as it was given, or None."""
    found = None
    for place, argument in enumerate(arguments):
        option, separator, value = argument.partition("=")
        if option == name:
            found = value if separator else next(iter(arguments[place + 1 : place + 2]), None)
    return found


def command(name: str, *arguments: str) -> str:
    """A command line of this program, for the database and config that this one was given."""
    return f"{program()} {shlex.join([name, *arguments, *_given_options(name, sys.argv[1:])])}"


def with_given_options(message: str, arguments: Sequence[str]) -> str:
    """A message in which each command that it offers has the database and config of this command line."""

    def completed(offered: re.Match[str]) -> str:
        options = shlex.join(_given_options(offered[1], arguments))
        return f"{offered[0]} {options}" if options else offered[0]

    return _OFFERED.sub(completed, message)


def _given_options(name: str, arguments: Sequence[str]) -> list[str]:
    values = ((option, given_option(option, arguments)) for option in _PLACE)
    given = [part for option, value in values if value is not None for part in (option, shown_address(value))]
    return [*given, _REHEARSAL] if name in _REHEARSED and _REHEARSAL in arguments else given


def _without_password(argument: str) -> str:
    option, separator, value = argument.partition("=")
    return f"{option}={shown_address(value)}" if option == "--db" and separator else shown_address(argument)


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


def without_option(name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments without an option and its value."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, separator, _ = argument.partition("=")
        if option != name:
            kept.append(argument)
        elif not separator:
            next(rest, None)
    return kept


def resume_command(called_as: str, arguments: Sequence[str], run: str, *, budget_usd: str | None = None) -> str:
    """The same command line for the run that just stopped: quoted for a shell, without ``--new``.

    ``budget_usd`` replaces the budget that was given.
    """
    kept: list[str] = []
    if arguments and arguments[0] == "resume":
        return f"{called_as} {shlex.join(map(_without_password, arguments))}"
    if any(each == "--due" or each.partition("=")[0] == "--backfill" for each in arguments):
        options = map(_without_password, _given_options("resume", arguments))
        return f"{called_as} {shlex.join(['resume', run, *options])}"
    rest = map(_without_password, arguments)
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
