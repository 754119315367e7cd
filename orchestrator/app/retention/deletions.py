"""What it means when a deletion, or the look whether something is gone, brings an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.core.problems import Problem, Refused
from orchestrator.policy.errors.error_rules import Override
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.verdicts import Expired, RateLimited

__all__ = ["Again", "Gone", "Impossible", "Left", "Verdict", "judge_deletion", "judge_disappearance"]

# Refusals that pass; every other one of the 4xx would come again.
_PASSING = frozenset({408, 409, 423, 425, 429})
_NO_SUCH_CALL = frozenset({404, 405, 410, 501})
_ALWAYS = float("inf")


@dataclass(frozen=True, slots=True)
class Gone:
    """The provider does not know it (any longer)."""


@dataclass(frozen=True, slots=True)
class Again:
    """It passes: try again, after so many seconds where the provider says how many.

    ``limited`` says that the limiter is to hear of it.
    """

    message: str
    after_s: float | None = None
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """This one stays there; others may still go."""

    message: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """None will go: the key is refused, or the server does not do such a thing."""

    message: str


Verdict: TypeAlias = Gone | Again | Left | Impossible


def judge_deletion(problem: Problem, overrides: Iterable[Override] = ()) -> Verdict:
    """What an error of a DELETE means; that the thing is not known there is no error (``ResponsesClient.delete``)."""
    if isinstance(problem, Refused) and problem.status in _NO_SUCH_CALL:
        return Impossible(f"the server does not delete such things (HTTP {problem.status})")
    return _judge(problem, overrides)


def judge_disappearance(problem: Problem, overrides: Iterable[Override] = ()) -> Verdict:
    """What it means that a thing could not be fetched after its deletion."""
    verdict = judge_poll(problem, age_s=_ALWAYS, misses=99, missing_s=_ALWAYS, overrides=overrides)
    return Gone() if isinstance(verdict, Expired) else _judge(problem, overrides)


def _judge(problem: Problem, overrides: Iterable[Override]) -> Verdict:
    if not isinstance(problem, Refused):
        return Again(problem.reason)
    message = problem.message or f"HTTP {problem.status}"
    if problem.status in (401, 403):
        return Impossible(f"the provider refuses the key ({message})")
    verdict = judge_poll(problem, age_s=_ALWAYS, misses=1, missing_s=0.0, overrides=overrides)
    if isinstance(verdict, RateLimited):
        return Again(message, verdict.after_s, limited=True)
    if 400 <= problem.status < 500 and problem.status not in _PASSING:
        return Left(message)
    return Again(message, problem.retry_after_s)
