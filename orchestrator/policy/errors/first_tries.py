"""Tells a wrong job or config from wrong rows: by whether anything has ever worked in this run.

An unknown model, an unsupported parameter or a wrong address would fail 10,000 rows one by one. So while nothing
has been accepted, refusals that "requests like it" would meet too put the request back, unspent, and the third
one stops the run. Nothing is lost by that, and nothing was paid: either the provider's side is mended and the run
goes on, or the job is corrected, which starts a new run. Once one request has been accepted, the same refusal is
the row's own fault.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.problems import Problem, Refused
from orchestrator.policy.errors.error_rules import ErrorRule, Override, Phase, Reach
from orchestrator.policy.errors.error_table import deciding_rule
from orchestrator.policy.errors.judgement import judge_poll, verdict_on_create
from orchestrator.policy.errors.verdicts import CreateVerdict, Expired, Halt, InDoubt, Later, PollVerdict

__all__ = ["FirstCreates", "FirstPolls"]

_LIMIT = 3
_PUT_BACK_S = 1.0

# Fields whose refusal may quote the text of a prompt, which has no place in a message that is logged.
_TEXT_FIELDS = ("input", "instructions", "prompt", "metadata")


class FirstCreates:
    """Judges the creates of one run. ``accepted`` says whether the run has ever had a response."""

    def __init__(self, *, accepted: bool, overrides: Sequence[Override] = ()) -> None:
        self._accepted = accepted
        self._overrides = overrides
        self._refusals = 0

    @property
    def has_accepted(self) -> bool:
        """Whether the run has ever had a response."""
        return self._accepted

    def accepted(self) -> None:
        """A response was created: from now on a refusal is judged alone."""
        self._accepted = True

    def judge(self, problem: Problem) -> CreateVerdict:
        """``judge_create``, in the light of what this run has seen."""
        rule = deciding_rule(problem, Phase.CREATE, self._overrides)
        verdict = verdict_on_create(rule, problem)
        if self._accepted or rule.reach is not Reach.JOB:
            return verdict
        self._refusals += 1
        maybe_sent = isinstance(verdict, InDoubt)
        if self._refusals >= _LIMIT:
            return _halt(rule, problem, maybe_sent=maybe_sent)
        return verdict if maybe_sent else Later(_PUT_BACK_S)


class FirstPolls:
    """Judges the looks of one run. ``seen`` says whether a look of this run has ever found its response.

    A server that accepts responses and keeps none would be paid for every attempt of every row. Give it only the
    looks at responses that this process had accepted: those of an earlier one may have expired while nobody
    looked, which says nothing about the server.
    """

    def __init__(self, *, seen: bool, overrides: Sequence[Override] = ()) -> None:
        self._seen = seen
        self._overrides = overrides
        self._expired = 0

    def seen(self) -> None:
        """A look found its response: from now on one that is missing is judged alone."""
        self._seen = True

    def judge(self, problem: Problem, *, age_s: float, misses: int, missing_s: float) -> PollVerdict:
        """``judge_look``, in the light of what this run has seen."""
        verdict = judge_poll(problem, age_s=age_s, misses=misses, missing_s=missing_s, overrides=self._overrides)
        if self._seen or not isinstance(verdict, Expired):
            return verdict
        self._expired += 1
        if self._expired < _LIMIT:
            return verdict
        return Halt(
            verdict.code,
            f"the provider accepted requests, and knows none of the first {_LIMIT} responses any more",
            "it may not keep background responses; `orchestrator doctor` tries it",
        )


def _halt(rule: ErrorRule, problem: Problem, *, maybe_sent: bool) -> Halt:
    match problem:
        case Refused():
            code = problem.code or problem.type or f"http_{problem.status}"
            said = f"HTTP {problem.status} {code}"
            if problem.param:
                said += f" for {problem.param}"
            if not (problem.param or "").startswith(_TEXT_FIELDS):
                said += f": {problem.message}"
        case _:
            code, said = "unreadable_reply", problem.reason
    message = f"{rule.says}; the first {_LIMIT} requests were refused and none accepted ({said})"
    return Halt(code, message, rule.hint, maybe_sent=maybe_sent)
