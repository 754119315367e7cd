"""Distinguishes a wrong job or config from wrong rows, by whether any request of the run was ever accepted.

An unknown model, an unsupported parameter or a wrong address would fail 10,000 rows one by one. So while no request
has been accepted, a refusal that "requests like it" would get too puts the request back without spending an
attempt, and the third one stops the run. Nothing is lost or paid: either the provider's side is fixed and the run
continues, or the job is corrected, and the run begins again with it. Once a request has been accepted, only the row
is blamed for such a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.problems import Problem, Refused, ReplyLost
from orchestrator.core.provider_error import is_transient_status
from orchestrator.policy.errors.error_rules import ErrorRule, Override, Phase, Reach
from orchestrator.policy.errors.error_table import deciding_rule
from orchestrator.policy.errors.judgement import code_of, judge_poll, verdict_on_create
from orchestrator.policy.errors.verdicts import (
    CreateVerdict,
    Expired,
    Fail,
    Halt,
    InDoubt,
    Later,
    PollAgain,
    PollVerdict,
)

__all__ = ["MOST_UNSEEN", "FirstCreates", "FirstPolls", "PollRefusals"]

_LIMIT = 3
# So many responses may be open before a poll has found the first.
MOST_UNSEEN = 64
# The first of them are polled at once, so that the others need not wait.
_EARLY_POLLS = 3
# So many polls that are all refused in the same way, over so many seconds, say that every further one would be.
_REFUSED_POLLS, _REFUSED_S = 5, 5.0
_PUT_BACK_S = 1.0

# Fields whose refusal may quote a prompt, which must not appear in a log.
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
        """Record that a response was created: from now on a refusal concerns its own request alone."""
        self._accepted = True

    def judge(self, problem: Problem) -> CreateVerdict:
        """Returns what ``judge_create`` does, or a halt if the first creates of the run are all refused."""
        rule = deciding_rule(problem, Phase.CREATE, self._overrides)
        verdict = verdict_on_create(rule, problem)
        if self._accepted or rule.reach is not Reach.JOB:
            return verdict
        self._refusals += 1
        maybe_sent = isinstance(verdict, InDoubt) or isinstance(problem, ReplyLost)
        if self._refusals >= _LIMIT:
            return _halt(rule, problem, maybe_sent=maybe_sent)
        return verdict if maybe_sent else Later(_PUT_BACK_S)


class FirstPolls:
    """Judges the polls of one run. ``seen`` says whether a poll of this run has ever found its response.

    Without it, a server that accepts responses and keeps none would be paid for every attempt of every row. Pass only
    polls of responses that this process created: those of an earlier process may have expired while no process
    polled them, which says nothing about the server.
    """

    def __init__(self, *, seen: bool, overrides: Sequence[Override] = ()) -> None:
        self._seen = seen
        self._overrides = overrides
        self._expired = 0
        self._early = 0
        # Whether a poll found nothing, and whether a create brought its answer.
        self._missed = self._answered = False

    @property
    def has_seen(self) -> bool:
        """Whether any response was ever found by a poll."""
        return self._seen

    @property
    def sends_few(self) -> bool:
        """Whether only few responses may be open, because the server may not keep any."""
        return not self._seen and not self._answered

    @property
    def finds_nothing(self) -> bool:
        """Whether nothing more is sent, because polls find nothing and none ever found a response."""
        return self._missed and not self._seen

    def answered(self) -> None:
        """Record that a create was answered with the ended response, which needs no poll."""
        self._answered = True

    def seen(self) -> None:
        """Record that a poll found its response: from now on a missing response concerns its own request alone."""
        self._seen = True

    def takes_early_poll(self) -> bool:
        """Whether a response that was just accepted is polled at once, to see that the server keeps it."""
        if self._seen or self._early >= _EARLY_POLLS:
            return False
        self._early += 1
        return True

    def judge(
        self, problem: Problem, *, age_s: float, misses: int, missing_s: float, unreadable: int = 0
    ) -> PollVerdict:
        """Returns what ``judge_poll`` does, or a halt if none of the run's first responses could be fetched."""
        verdict = judge_poll(
            problem,
            age_s=age_s,
            misses=misses,
            missing_s=missing_s,
            unreadable=unreadable,
            overrides=self._overrides,
        )
        self._missed |= isinstance(verdict, Expired | Fail) or (isinstance(verdict, PollAgain) and verdict.missing)
        if self._seen or not isinstance(verdict, Expired | Fail):
            return verdict
        self._expired += 1
        if self._expired < _LIMIT:
            return verdict
        knows = "no longer knows" if isinstance(verdict, Expired) else "has no readable reply for"
        return Halt(
            verdict.code,
            f"the provider accepted requests, but {knows} any of the first {_LIMIT} responses",
            "it may not keep background responses; `orchestrator doctor` checks that",
        )


class PollRefusals:
    """Halts a run whose polls of this process were all refused in the same way, so that none is repeated for ever."""

    def __init__(self) -> None:
        self._seen = False
        self._refused: tuple[int, str] | None = None
        self._count = 0
        self._since = 0.0

    def seen(self) -> None:
        """Record that a poll brought a response."""
        self._seen = True

    def judge(self, problem: Problem, verdict: PollVerdict, *, now: float) -> PollVerdict:
        """Returns the verdict, or a halt if every poll so far was refused with the same status and code."""
        if self._seen:
            return verdict
        if not isinstance(problem, Refused) or not _is_lasting(problem, verdict):
            self._refused = None
            return verdict
        refused = (problem.status, code_of(problem))
        if refused != self._refused:
            self._refused, self._count, self._since = refused, 0, now
        self._count += 1
        if self._count < _REFUSED_POLLS or now - self._since < _REFUSED_S:
            return verdict
        return Halt(
            code_of(problem),
            f"every poll so far was refused in the same way ({_words_of(problem)})",
            "fix what it says, then repeat the command: the open responses are polled again",
        )


def _is_lasting(problem: Refused, verdict: PollVerdict) -> bool:
    waits = isinstance(verdict, PollAgain) and not verdict.missing
    return waits and 400 <= problem.status < 500 and not is_transient_status(problem.status)


def _words_of(problem: Refused) -> str:
    """The server's own words, without those about a field that may hold a prompt."""
    error = f"HTTP {problem.status} {code_of(problem)}"
    if problem.param:
        error += f" for {problem.param}"
    return error if (problem.param or "").startswith(_TEXT_FIELDS) else f"{error}: {problem.message}"


def _halt(rule: ErrorRule, problem: Problem, *, maybe_sent: bool) -> Halt:
    match problem:
        case Refused():
            code, error = code_of(problem), _words_of(problem)
        case _:
            code, error = "unreadable_reply", problem.reason
    message = f"{rule.says}; the first {_LIMIT} requests were refused and none accepted ({error})"
    return Halt(code, message, rule.hint, maybe_sent=maybe_sent)
