"""The command line's one entry: commands, help, and how each way to end becomes an exit code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

from orchestrator.cli.doctor import doctor
from orchestrator.cli.error_messages import report_bug, report_misuse, report_problem
from orchestrator.cli.estimate import estimate
from orchestrator.cli.export import export
from orchestrator.cli.follow import follow
from orchestrator.cli.help import PlainColumns
from orchestrator.cli.inspect import costs, runs, show, status
from orchestrator.cli.output import PipeConsole, ReaderGone, abandon_stdout, note
from orchestrator.cli.purge import purge
from orchestrator.cli.retry_cancel import cancel, retry
from orchestrator.cli.run import EPILOGUE, run
from orchestrator.cli.sandbox import sandbox
from orchestrator.cli.schema import schema
from orchestrator.core.errors import ExitCode, OrchestratorError, cause_of

__all__ = ["build_app", "invoke"]

_PURPOSE = """\
Run large numbers of LLM requests through the OpenAI Responses API: in the background, within rate limits and budget,
and resumable after any crash, on nothing but SQLite.
"""
_COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Work": (run, retry, cancel, purge),
    "Look": (status, runs, show, follow, export, costs),
    "Prepare": (estimate, doctor, schema, sandbox),
}
_START = """\
Start without a key
  orchestrator run jobs/summarise.yaml --config configs/sandbox.yaml"""


def build_app() -> App:
    """Every command with its help."""
    app = App(
        name="orchestrator",
        help=_PURPOSE,
        help_epilogue=_START,
        help_format="plaintext",
        help_formatter=PlainColumns(),
        console=PipeConsole(highlight=False),
        version_flags=["--version"],
        default_parameter=Parameter(negative=(), show_default=False),
        group_arguments=Group("Arguments", sort_key=0),
        group_parameters=Group("Options", sort_key=1),
    )
    for position, (title, commands) in enumerate(_COMMANDS.items()):
        group = Group(title, sort_key=position)
        for order, command in enumerate(commands):
            epilogue = EPILOGUE if command is run else ""
            app.command(command, group=group, sort_key=order, help_epilogue=epilogue)
    for name in ("status", "costs", "purge"):
        app[name].usage = f"orchestrator {name} [OPTIONS] [RUN]"
    options = Group("Options", sort_key=len(_COMMANDS))
    for flag, meaning in (("--help", "Show this page, or that of a command."), ("--version", "Show the version.")):
        app[flag].group, app[flag].help = options, meaning
    return app


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; reports every failure and raises none."""
    try:
        return _execute(arguments)
    except CycloptsError as error:
        return report_misuse(error)
    except ReaderGone:
        return ExitCode.OK
    except KeyboardInterrupt:
        note("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 – reported as what it is, with an exit code
        cause = cause_of(error)
        return report_problem(cause) if isinstance(cause, OrchestratorError) else report_bug(cause)
    finally:
        abandon_stdout()


def _execute(arguments: Sequence[str]) -> int:
    command, bound, _ = build_app().parse_args(arguments, exit_on_error=False, print_error=False)
    outcome = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(outcome):
        outcome = _run_async(outcome)
    return int(outcome or ExitCode.OK)


def _run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import anyio

    async def work() -> Any:
        return await coroutine

    # uvloop comes with the extra "fast".
    return anyio.run(work, backend_options={"use_uvloop": find_spec("uvloop") is not None})
