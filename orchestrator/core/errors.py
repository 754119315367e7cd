"""The exceptions that a user can see, each with its exit code, and the error codes of failed requests.

A failed row is a value, never an exception; these exceptions stand for a wrong file, an unusable store or a bug.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CODES",
    "BadRow",
    "ConfigError",
    "ExitCode",
    "IllegalTransition",
    "NotScheduled",
    "OrchestratorError",
    "ProviderUnreachable",
    "RunBusy",
    "RunChanged",
    "RunNotFound",
    "SpecError",
    "StoreError",
    "UsageError",
    "cause_of",
]


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    HALTED = 4
    STORE = 5
    BUSY = 6
    INTERRUPTED = 130
    TERMINATED = 143


class OrchestratorError(Exception):
    """An error that the user can fix: what is wrong, where, and what to do next.

    ``where`` is a place such as ``file:line``; ``hint`` is one sentence or command. Neither ever holds a secret or
    the text of a prompt.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class UsageError(OrchestratorError):
    """The command line asks for something impossible."""


class NotScheduled(UsageError):
    """The job has no schedule, so it is never due."""


class SpecError(OrchestratorError):
    """The job file, or the input it names, is wrong; nothing was sent."""


class BadRow(SpecError):
    """One input row cannot become a request."""

    code = "row_invalid"


class ConfigError(OrchestratorError):
    """The config file, an environment variable or the key is wrong."""


class RunNotFound(UsageError):
    """The database has no run of that name."""


class RunBusy(OrchestratorError):
    """Another process holds the lock of this run; the same command works once that process has ended."""

    exit_code = ExitCode.BUSY


class RunChanged(UsageError):
    """The run exists, but its job or its input has changed."""


class ProviderUnreachable(OrchestratorError):
    """The provider cannot be reached, so no request was sent."""

    exit_code = ExitCode.HALTED


class StoreError(OrchestratorError):
    """The database cannot be used: not writable, full, damaged, or of a newer version."""

    exit_code = ExitCode.STORE


class OutdatedDatabase(StoreError):
    """An older version wrote the database: what only reads does not upgrade it."""


class IllegalTransition(RuntimeError):
    """The code asked for a transition that the state table does not have: a bug."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a request in state {state!r} cannot {event!r}")
        self.state = state
        self.event = event


# The codes of orchestrator itself; a provider's own code is passed on unchanged.
CODES: dict[str, str] = {
    "answer_invalid": "the response was received, and charged, but judging it failed",
    "attempts_exhausted": "every attempt allowed by the job's retry.attempts ended in a transient fault",
    "batch_cancelled": "the batch was cancelled before it came to this request",
    "batch_expired": "the batch expired before it came to this request",
    "batch_line_missing": "the batch has ended, and this request is in none of its files; it may have been answered, "
    "and charged",
    "batch_refused": "the provider refused the batch that this request was in",
    "cancelled": "the request was cancelled, by you or at the provider",
    "chain_broken": "an earlier turn of the chain failed; `orchestrator retry` continues from that one",
    "connection_failed": "no connection could be made; nothing was sent",
    "content_filter": "the provider's content filter stopped the answer",
    "cost_unbounded": "under a budget, nothing bounds what this request may cost: no price, no max_output_tokens, or "
    "input that is not only text; budget.usd_per_request can bound it",
    "deadline_exceeded": "the run's deadline passed before the request could be sent",
    "empty_output": "the response completed, and was charged, but holds no text",
    "incomplete": "the response ended before it was complete, and the provider gives no reason",
    "lane_changed": "too little time was left for the lane of the response: it was cancelled and asked for again",
    "max_output_tokens": "the answer was cut off at max_output_tokens",
    "max_turns": "after the job's max_turns the model still asked for tools, or its answer was still invalid",
    "output_invalid": "the answer is not the JSON that the job's schema asks for",
    "over_budget": "the worst case of this one request costs more than the whole budget",
    "queued_timeout": "the response stayed queued for longer than timeouts.queued, and was given up",
    "refusal": "the model refused to answer",
    "request_too_large": "the request needs more tokens than the limit of a whole minute; it can never fit",
    "requires_action": "the response stopped for a tool call or an approval that nothing here answers",
    "response_expired": "the provider no longer knows the response, so its result is lost; a new attempt costs again",
    "response_failed": "the response failed, and the provider gives no code",
    "row_invalid": "the row cannot be rendered into a request",
    "run_timeout": "the response ran for longer than timeouts.run, and was given up",
    "submit_in_doubt": "the request may have been sent, but the reply was lost; it is held for your decision",
    "unreadable_reply": "the provider's reply is not a readable response; another attempt may cost again, so only "
    "`orchestrator retry` makes one",
}


def cause_of(error: BaseException) -> BaseException:
    """The error to report out of a group: the first that the user can fix, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [cause_of(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, OrchestratorError)), leaves[0])
