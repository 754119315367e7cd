"""The command line's one entry: commands, help, and how each way to end becomes an exit code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from orchestrator.cli.copy_runs import copy
from orchestrator.cli.doctor import doctor
from orchestrator.cli.error_messages import report_bug, report_misuse, report_problem
from orchestrator.cli.estimate import estimate
from orchestrator.cli.export import export
from orchestrator.cli.follow import follow
from orchestrator.cli.help import PlainColumns
from orchestrator.cli.init import init
from orchestrator.cli.inspect import costs, runs, show, status
from orchestrator.cli.next_nights import schedule
from orchestrator.cli.notify import notify
from orchestrator.cli.output import PipeConsole, ReaderGone, abandon_stdout, note, stdout_bytes
from orchestrator.cli.purge import purge
from orchestrator.cli.remove import remove
from orchestrator.cli.report import report
from orchestrator.cli.resume import resume
from orchestrator.cli.retry_cancel import cancel, retry
from orchestrator.cli.run import EPILOGUE, run
from orchestrator.cli.sandbox import sandbox
from orchestrator.cli.schema import schema
from orchestrator.cli.stage_plan import plan
from orchestrator.cli.view import view
from orchestrator.cli.worker import worker
from orchestrator.core.errors import ExitCode, OrchestratorError, UsageError, cause_of
from orchestrator.core.version import __version__

__all__ = ["build_app", "invoke"]

_PURPOSE = """\
Run large numbers of LLM requests through the OpenAI Responses API: in the background, within rate limits and budget,
and resumable after any crash, on nothing but SQLite.
"""
_START = """\
Start without a key
  orchestrator init
  orchestrator run job.yaml --sandbox"""


def help_page(
    command: Annotated[str | None, Parameter(name="COMMAND", help="The command; without it the overview.")] = None, /
) -> None:
    """Show the help page of a command."""
    app = build_app()
    if command is not None and command not in set(app):
        from difflib import get_close_matches

        close = get_close_matches(command, list(app), n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"there is no command {command!r}{meant}", hint="orchestrator help")
    app.help_print([command] if command else [])


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="Which shell.")], /
) -> None:
    """Print a script with which a shell completes commands and options.

    bash: `orchestrator completion bash > ~/.local/share/bash-completion/completions/orchestrator`.
    zsh: write it to a file _orchestrator in a folder of $fpath. fish: ~/.config/fish/completions/orchestrator.fish.
    """
    script = build_app().generate_completion(prog_name="orchestrator", shell=shell)
    with stdout_bytes() as out:
        out.write(script.encode())


_COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Work": (run, worker, resume, retry, cancel, purge, remove, copy),
    "Look": (view, status, runs, show, follow, export, report, costs),
    "Prepare": (init, plan, estimate, schedule, doctor, notify, schema, sandbox, completion, help_page),
}
_NAMES: dict[Callable[..., Any], tuple[str, ...]] = {runs: ("runs", "list"), help_page: ("help",)}


def build_app() -> App:
    """Every command with its help."""
    app = App(
        name="orchestrator",
        help=_PURPOSE,
        help_epilogue=_START,
        help_format="plaintext",
        help_formatter=PlainColumns(),
        console=PipeConsole(highlight=False),
        version=__version__,
        version_flags=["--version", "-V"],
        default_parameter=Parameter(negative=(), show_default=False),
        group_arguments=Group("Arguments", sort_key=0),
        group_parameters=Group("Options", sort_key=1),
    )
    for position, (title, commands) in enumerate(_COMMANDS.items()):
        group = Group(title, sort_key=position)
        for order, command in enumerate(commands):
            epilogue = EPILOGUE if command is run else ""
            names = _NAMES.get(command)
            app.command(command, name=names, group=group, sort_key=order, help_epilogue=epilogue)
    for name in ("status", "view", "costs", "purge"):
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
