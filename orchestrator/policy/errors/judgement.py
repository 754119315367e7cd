"""What each problem and each response means for the request, the run and the provider.

Each problem raises three questions: is it transient, was the request sent, and which other requests will hit it? Two
tables hold the answers, ``ERROR_TABLE`` and ``OUTCOMES``; the functions here find the row and return its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Response
from orchestrator.core.money import Picodollars
from orchestrator.core.problems import Problem, Refused, ReplyLost
from orchestrator.core.provider_error import message_of
from orchestrator.policy.errors.answer_schema import without_fence
from orchestrator.policy.errors.error_rules import Action, ErrorRule, Override, Phase, Reach
from orchestrator.policy.errors.error_table import ERROR_TABLE, deciding_rule
from orchestrator.policy.errors.outcomes import (
    OUTCOMES,
    AnswerPolicy,
    Expectation,
    OnIncomplete,
    OnInvalid,
    RaiseTo,
    Repair,
)
from orchestrator.policy.errors.verdicts import (
    CreateVerdict,
    Expired,
    Fail,
    Found,
    Full,
    Halt,
    InDoubt,
    Later,
    Outage,
    PollAgain,
    PollVerdict,
    RateLimited,
    ResponseVerdict,
    Retry,
)

__all__ = [
    "Action",
    "AnswerPolicy",
    "JudgementRow",
    "OnIncomplete",
    "OnInvalid",
    "Override",
    "Phase",
    "RaiseTo",
    "Repair",
    "code_of",
    "judge_create",
    "judge_poll",
    "judge_response",
    "judgement_table",
    "may_resend",
]

# The longest wait that a provider can impose at once; a broken header must not stop a run for a day.
_LONGEST_WAIT_S = 3600.0

# A 404 for an accepted response: in its first minute it may not be replicated yet; after that it is polled three more
# times, well apart, before it counts as expired (responses API, trouble T8). The first poll is repeated soon, because
# most such replies are a transient fault.
_YOUNG_S = 60.0
_SOON_S = 2.0
_RECHECK_YOUNG_S = 5.0
_RECHECK_S = 20.0
_RECHECKS = 3
# A whole reply that cannot be read is fetched so many times, because the damage may lie on the way.
_UNREADABLE_POLLS = 5


def judge_create(problem: Problem, *, overrides: Iterable[Override] = ()) -> CreateVerdict:
    """Returns what to do after a create call that brought no response."""
    return verdict_on_create(deciding_rule(problem, Phase.CREATE, overrides), problem)


def judge_poll(
    problem: Problem,
    *,
    age_s: float,
    misses: int,
    missing_s: float,
    unreadable: int = 0,
    overrides: Iterable[Override] = (),
) -> PollVerdict:
    """Returns what to do after a poll (or a cancel) that brought no response; the response itself stays as it is.

    ``age_s`` is the time since it was accepted; ``misses`` counts the polls in a row that brought no response,
    including this one; ``missing_s`` is the time since the first of them that did not find it, ``unreadable`` the
    number of those that brought a whole reply that cannot be read.
    """
    if isinstance(problem, ReplyLost):
        # Which response a poll is about was known before: what else is wrong with its reply decides.
        problem = replace(problem, response_id=None)
    rule = deciding_rule(problem, Phase.POLL, overrides)
    match rule.action:
        case Action.HALT:
            return _halt(rule, problem)
        case Action.RATE_LIMITED | Action.SLOW_DOWN:
            return _rate_limited(rule, problem)
        case Action.MISSING:
            return _missing(problem, age_s=age_s, misses=misses, missing_s=missing_s)
        case Action.UNREADABLE if unreadable >= _UNREADABLE_POLLS or _is_too_large(problem):
            return Fail(_code(rule, problem), message_of(problem))
        case _:
            return PollAgain(_wait_s(rule, problem), outage=_is_outage(rule))


def judge_response(
    response: Response,
    policy: AnswerPolicy,
    *,
    max_output_tokens: int | None = None,
    repairs: int = 0,
    overrides: Iterable[Override] = (),
) -> ResponseVerdict:
    """Returns what a readable response means for its request.

    ``max_output_tokens`` is what the request was sent with; ``repairs`` is how often the model was asked to correct
    its answer.
    """
    if response.status == "failed":
        return _judge_failure(response, overrides)
    schema = policy.schema
    # Only a complete answer can be judged (responses API, "structured output").
    flaw = (
        schema.flaw(without_fence(response.output_text))
        if schema is not None and response.status == "completed"
        else None
    )
    expected = Expectation(policy, max_output_tokens, repairs, flaw)
    return next(row.verdict(response, expected) for row in OUTCOMES if row.matches(response, expected))


def may_resend(worst_case_pusd: Picodollars | None, *, below_pusd: Picodollars) -> bool:
    """Whether a request in doubt is sent again automatically: only if its worst case is known and cheap."""
    return worst_case_pusd is not None and worst_case_pusd < below_pusd


def verdict_on_create(rule: ErrorRule, problem: Problem) -> CreateVerdict:
    """Returns the verdict of that row of the table on that problem of a create call."""
    code, message, wait_s = _code(rule, problem), message_of(problem), _wait_s(rule, problem)
    match rule.action:
        case Action.LATER:
            return Later(wait_s or 0.0)
        case Action.FOUND if isinstance(problem, ReplyLost) and problem.response_id is not None:
            return Found(problem.response_id)
        case Action.IN_DOUBT | Action.FOUND:
            return InDoubt(message=message)
        case Action.OUTAGE:
            return Outage(code, wait_s, message)
        case Action.RATE_LIMITED | Action.SLOW_DOWN:
            return _rate_limited(rule, problem)
        case Action.FULL:
            return Full(wait_s)
        case Action.RETRY | Action.MISSING:
            return _retry(rule, problem)
        case Action.FAIL:
            return Fail(code, message)
        case Action.HALT:
            return _halt(rule, problem)
        case Action.UNREADABLE:
            return InDoubt(message=message)
        case _:
            assert_never(rule.action)


def _judge_failure(response: Response, overrides: Iterable[Override]) -> ResponseVerdict:
    error = Refused(status=200, code=response.error_code, message=response.error_message or "the response failed")
    rule = deciding_rule(error, Phase.FAILED, overrides)
    match rule.action:
        case Action.HALT:
            return _halt(rule, error)
        case Action.FAIL:
            return Fail(_code(rule, error), message_of(error))
        case _:
            return _retry(rule, error)


def _retry(rule: ErrorRule, problem: Problem) -> Retry:
    limited = rule.action in {Action.RATE_LIMITED, Action.SLOW_DOWN}
    return Retry(
        _code(rule, problem),
        _wait_s(rule, problem),
        message_of(problem),
        base_s=rule.base_s,
        outage=_is_outage(rule) and not limited,
        rate_limited=limited,
        most_attempts=rule.most_attempts,
    )


def _rate_limited(rule: ErrorRule, problem: Problem) -> RateLimited:
    return RateLimited(_wait_s(rule, problem), slow_down=rule.action is Action.SLOW_DOWN)


def _halt(rule: ErrorRule, problem: Problem) -> Halt:
    return Halt(_code(rule, problem), f"{rule.says} ({message_of(problem)})", rule.hint)


def _missing(problem: Problem, *, age_s: float, misses: int, missing_s: float) -> PollAgain | Expired:
    rechecked_s = _RECHECKS * _RECHECK_S
    if misses > _RECHECKS and missing_s >= rechecked_s and age_s >= _YOUNG_S + rechecked_s:
        return Expired(message_of(problem))
    if misses <= 1:
        return PollAgain(_SOON_S, missing=True)
    return PollAgain(_RECHECK_YOUNG_S if age_s < _YOUNG_S else _RECHECK_S, missing=True)


def _is_outage(rule: ErrorRule) -> bool:
    """Whether the circuit breaker counts it: other requests will hit it too."""
    return rule.reach is not Reach.REQUEST or rule.action is Action.OUTAGE


def _wait_s(rule: ErrorRule, problem: Problem) -> float | None:
    asked_s = problem.retry_after_s if isinstance(problem, Refused) else None
    if asked_s is None or not asked_s >= 0:
        return rule.wait_s
    return max(rule.wait_s or 0.0, min(asked_s, _LONGEST_WAIT_S))


def _code(rule: ErrorRule, problem: Problem) -> str:
    if rule.code is not None:
        return rule.code
    return code_of(problem) if isinstance(problem, Refused) else "unreadable_reply"


def _is_too_large(problem: Problem) -> bool:
    return isinstance(problem, ReplyLost) and problem.too_large


def code_of(error: Refused) -> str:
    """Returns the server's own code, or its HTTP status where it has none: ``http_400``, not LiteLLM's ``400``."""
    codes = (code for code in (error.code, error.type) if code and code != str(error.status))
    return next(codes, f"http_{error.status}")


# ── for the documentation ─────────────────────────────────────────────────────────────────────────────────────


@fast_dataclass
class JudgementRow:
    """One row of the printed table. ``reach`` says which requests will hit it; empty for a readable response."""

    phase: str
    name: str
    when: str
    then: str
    reach: str
    why: str


def judgement_table() -> list[JudgementRow]:
    """Returns every row of both tables in the order in which they are tried, for the documentation and the tests."""
    errors = [
        JudgementRow(
            phase=", ".join(phase for phase in Phase if phase in rule.phases),
            name=rule.name,
            when=rule.when,
            then=_then(rule),
            reach=rule.reach,
            why=rule.why,
        )
        for rule in ERROR_TABLE
    ]
    outcomes = [
        JudgementRow(phase="response", name=row.name, when=row.when, then=row.then, reach="", why=row.why)
        for row in OUTCOMES
    ]
    return errors + outcomes


def _then(rule: ErrorRule) -> str:
    match rule.action:
        case Action.RETRY if rule.phases == {Phase.POLL}:
            return "poll again"
        case Action.MISSING:
            return "poll again for a while, then response_expired"
        case Action.UNREADABLE:
            return f"poll again, {_UNREADABLE_POLLS} times in all, then fail unreadable_reply"
        case Action.RATE_LIMITED | Action.SLOW_DOWN if rule.phases == {Phase.FAILED}:
            return "retry, and slow down as rate-limited"
        case Action.RETRY if rule.most_attempts:
            return f"retry, at most {rule.most_attempts} attempts"
        case action:
            return f"{action.replace('_', ' ')} {rule.code or ''}".rstrip()
