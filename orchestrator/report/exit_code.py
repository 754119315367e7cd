"""What the end of a run means to the script that called."""

from __future__ import annotations

from orchestrator.core.errors import ExitCode
from orchestrator.core.increments import Change
from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import Summary

__all__ = ["exit_code", "is_empty"]


def exit_code(summary: Summary, interrupted: ExitCode | None, *, may_be_empty: bool = False) -> ExitCode:
    """What the state of a run means to the script that called; ``may_be_empty``: nothing to send is a success."""
    match summary.run.state:
        case RunState.FINISHED:
            unhappy = summary.requests.get(State.FAILED, 0) + summary.requests.get(State.CANCELLED, 0)
            return ExitCode.SOME_FAILED if unhappy or (is_empty(summary) and not may_be_empty) else ExitCode.OK
        case RunState.HALTED | RunState.CANCELLED:
            return ExitCode.HALTED
        case RunState.ACTIVE | RunState.PAUSED:
            return interrupted or ExitCode.INTERRUPTED


def is_empty(summary: Summary) -> bool:
    """Whether a run had nothing to send: its input has no rows, or every row was skipped.

    Rows that were not asked because they have their answer already are not nothing.
    """
    unchanged = summary.changes[Change.UNCHANGED] if summary.changes is not None else 0
    return not unchanged and not any(summary.requests.values())
