"""Runs a job with log, progress display and signal handling around ``Orchestrator.run``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from orchestrator.cli.output import note
from orchestrator.cli.signals import Interruption
from orchestrator.core.errors import ConfigError, ExitCode
from orchestrator.core.events import RunEnded, RunEvent, RunStarted
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import RunState
from orchestrator.report.display import Bar, Display, Mode, Plain, choose_mode, displayed
from orchestrator.report.live_tally import LiveTally
from orchestrator.report.log import Level, Style, logger, observer

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.stores.reads import Summary

__all__ = ["LiveRun", "RunOutcome"]

_Choice = TypeVar("_Choice", bound=StrEnum)


@fast_dataclass(kw_only=False)
class RunOutcome:
    """How the run ended or stopped.

    ``began`` is false if nothing was left to do, ``reason`` says in words why it ended, and ``interrupted`` is the
    exit code of the signal that asked to stop, if one did.
    """

    summary: Summary
    began: bool
    reason: str | None
    interrupted: ExitCode | None


class LiveRun:
    """Observes one run; give ``observers`` to the orchestrator that runs it."""

    def __init__(self, mode: Mode, environ: Mapping[str, str], *, simulated: bool) -> None:
        mode = choose_mode(mode)
        usual = Level.INFO if mode is Mode.PLAIN else Level.WARNING
        self._style = _chosen(environ, "ORCHESTRATOR_LOG_FORMAT", Style, Style.CONSOLE)
        self._log = logger(_chosen(environ, "ORCHESTRATOR_LOG", Level, usual), self._style)
        self._mode = mode
        self._simulated = simulated
        self._began = False
        self._reason: str | None = None
        self._tally = LiveTally()
        self.observers = (observer(self._log), self._keep, *([self._tally.observe] if mode is not Mode.NONE else []))

    def warn(self, message: str) -> None:
        """Log a warning, which stops nothing."""
        self._log.warning(message)

    async def follow(
        self, orchestrator: Orchestrator, work: Awaitable[Summary], *, address: str | None = None
    ) -> RunOutcome:
        """Wait until a run has ended, or a signal has asked it to stop; ``address`` is that of the web view."""
        with Interruption(orchestrator.stop) as interruption:
            display = self._display(address)
            async with displayed(lambda: orchestrator.progress, display, now=time.time, tally=self._tally):
                summary = await work
            if summary.run.state is RunState.FINISHED:
                interruption.disarm()
        return RunOutcome(summary, self._began, self._reason or summary.run.reason, interruption.code)

    def _display(self, address: str | None) -> Display | None:
        match self._mode:
            case Mode.BAR:
                return Bar(address)
            case Mode.PLAIN:
                return Plain(self._log, self._style)
            case _:
                return None

    def _keep(self, event: RunEvent) -> None:
        match event:
            case RunStarted():
                self._began = True
                if self._simulated:
                    note("sandbox: simulated answers and play money; nothing is sent to a provider")
            case RunEnded(reason=reason):
                self._reason = reason


def _chosen(environ: Mapping[str, str], variable: str, kind: type[_Choice], usual: _Choice) -> _Choice:
    try:
        return kind(environ[variable].lower()) if environ.get(variable) else usual
    except ValueError:
        raise ConfigError(f"{variable} must be one of {', '.join(kind)}") from None
