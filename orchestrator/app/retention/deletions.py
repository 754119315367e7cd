"""What an error means for a deletion, or for the check that an object is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from orchestrator.app.ask import Again
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import Problem, Refused
from orchestrator.core.provider_error import is_transient_status, message_of
from orchestrator.policy.errors.error_rules import Override
from orchestrator.policy.errors.judgement import judge_poll
from orchestrator.policy.errors.verdicts import Expired, RateLimited

__all__ = ["Gone", "Impossible", "Left", "Verdict", "judge_deletion", "judge_disappearance"]

_NO_SUCH_CALL = frozenset({404, 405, 410, 501})
_ALWAYS = float("inf")


@fast_dataclass(kw_only=False)
class Gone:
    """The provider does not, or no longer, know the object."""


@fast_dataclass(kw_only=False)
class Left:
    """This object stays at the provider; others may still be deleted."""

    message: str


@fast_dataclass(kw_only=False)
class Impossible:
    """No object can be deleted: the key is refused, or the server has no such call."""

    message: str


Verdict: TypeAlias = Gone | Again | Left | Impossible


def judge_deletion(problem: Problem, overrides: Iterable[Override] = ()) -> Verdict:
    """Returns what an error of a DELETE means; an unknown object is no error (``ResponsesClient.delete``)."""
    if isinstance(problem, Refused) and problem.status in _NO_SUCH_CALL:
        return Impossible(f"the server does not delete such things (HTTP {problem.status})")
    return _judge(problem, overrides)


def judge_disappearance(problem: Problem, overrides: Iterable[Override] = ()) -> Verdict:
    """Returns what it means that an object cannot be fetched after its deletion."""
    verdict = judge_poll(problem, age_s=_ALWAYS, misses=99, missing_s=_ALWAYS, overrides=overrides)
    return Gone() if isinstance(verdict, Expired) else _judge(problem, overrides)


def _judge(problem: Problem, overrides: Iterable[Override]) -> Verdict:
    message = message_of(problem)
    if not isinstance(problem, Refused):
        return Again(message)
    if problem.status in (401, 403):
        return Impossible(f"the provider refuses the key ({message})")
    verdict = judge_poll(problem, age_s=_ALWAYS, misses=1, missing_s=0.0, overrides=overrides)
    if isinstance(verdict, RateLimited):
        return Again(message, verdict.after_s, rate_limited=True)
    return Again(message, problem.retry_after_s) if is_transient_status(problem.status) else Left(message)
