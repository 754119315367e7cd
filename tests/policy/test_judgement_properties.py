"""Properties of the verdicts on arbitrary problems."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Action, Override, Phase
from orchestrator.policy.errors.error_table import ERROR_TABLE, deciding_rule
from orchestrator.policy.errors.first_tries import FirstCreates
from orchestrator.policy.errors.judgement import judge_create, judge_poll
from orchestrator.policy.errors.refusals import NO_MONEY
from orchestrator.policy.errors.verdicts import (
    Expired,
    Fail,
    Found,
    Halt,
    InDoubt,
    Later,
    Outage,
    PollAgain,
    RateLimited,
    Retry,
)

KNOWN = sorted({name for rule in ERROR_TABLE for name in rule.names})
CUES = [rule.text.replace(".*", " x ").split("(")[0] for rule in ERROR_TABLE if rule.text] + [
    "Limit 10, Requested 20",
    "Limit 0,0,, Requested ,",
    "request too large",
]

words = st.one_of(st.none(), st.sampled_from(KNOWN), st.text(max_size=12))
messages = st.one_of(st.text(max_size=40), st.sampled_from(CUES))
waits = st.one_of(st.none(), st.floats(min_value=0, allow_infinity=True, allow_nan=False), st.just(float("nan")))
refusals = st.builds(
    Refused,
    status=st.one_of(st.integers(-1, 1000), st.sampled_from([400, 401, 404, 408, 409, 429, 500, 502, 503, 504, 522])),
    code=words,
    type=words,
    param=words,
    message=messages,
    retry_after_s=waits,
    should_retry=st.sampled_from([None, True, False]),
)
lost = st.builds(
    ReplyLost,
    reason=st.text(max_size=20),
    status=st.one_of(st.none(), st.integers(200, 299)),
    response_id=st.one_of(st.none(), st.text(min_size=1, max_size=10)),
)
never_sent = st.builds(NeverSent, reason=st.text(max_size=20), local=st.booleans())
problems = st.one_of(refusals, lost, never_sent)
overrides = st.lists(
    st.builds(
        Override,
        action=st.sampled_from([Action.RETRY, Action.RATE_LIMITED, Action.OUTAGE, Action.HALT]),
        status=st.integers(400, 599),
        text=st.one_of(st.none(), st.text(max_size=3)),
        phase=st.sampled_from(list(Phase)),
    ),
    max_size=3,
)


def wait_of(verdict: object) -> float | None:
    return getattr(verdict, "after_s", None)


@given(problems, overrides)
def test_every_problem_of_a_create_has_a_verdict(problem: Problem, config: list[Override]) -> None:
    verdict = judge_create(problem, overrides=config)
    assert isinstance(verdict, Retry | Later | RateLimited | Outage | Fail | InDoubt | Found | Halt)
    after_s = wait_of(verdict)
    assert after_s is None or 0 <= after_s <= 3600


@given(
    problems,
    overrides,
    st.floats(0, 1e7, allow_nan=False),
    st.integers(0, 10**9),
    st.floats(0, 1e7, allow_nan=False),
)
def test_every_problem_of_a_poll_has_a_verdict(
    problem: Problem, config: list[Override], age_s: float, misses: int, missing_s: float
) -> None:
    verdict = judge_poll(problem, age_s=age_s, misses=misses, missing_s=missing_s, overrides=config)
    assert isinstance(verdict, PollAgain | RateLimited | Expired | Halt)
    after_s = wait_of(verdict)
    assert after_s is None or 0 <= after_s <= 3600


@given(never_sent, overrides)
def test_a_request_never_sent_is_not_in_doubt_and_spends_no_attempt(
    problem: NeverSent, config: list[Override]
) -> None:
    assert isinstance(judge_create(problem, overrides=config), Later | Outage)


@given(lost, overrides)
def test_a_request_that_may_have_been_sent_is_never_simply_sent_again(
    problem: ReplyLost, config: list[Override]
) -> None:
    verdict = judge_create(problem, overrides=config)
    assert isinstance(verdict, InDoubt | Found)
    assert isinstance(verdict, Found) == (problem.response_id is not None)


@given(refusals)
def test_only_a_gateway_or_an_unknown_status_leaves_a_refusal_in_doubt(problem: Refused) -> None:
    if isinstance(judge_create(problem), InDoubt):
        assert (
            problem.status in {502, 504, *range(520, 525)}
            or not 300 <= problem.status < 600
            or "disconnect/reset before headers" in problem.message
        )


@given(st.sampled_from([502, 504, *range(520, 525)]), st.text(max_size=20), st.sampled_from([None, True, False]))
def test_a_gateway_error_always_leaves_the_request_in_doubt(
    status: int, message: str, should_retry: bool | None
) -> None:
    problem = Refused(status=status, message=message, should_retry=should_retry)
    assert isinstance(judge_create(problem), InDoubt)


@given(refusals, st.sampled_from(sorted(NO_MONEY)), st.booleans(), overrides)
def test_a_lack_of_credit_is_never_retried(
    problem: Refused, name: str, in_type: bool, config: list[Override]
) -> None:
    problem = (
        dataclasses.replace(problem, code="new", type=name) if in_type else dataclasses.replace(problem, code=name)
    )
    assert isinstance(judge_create(problem, overrides=config), Halt)
    assert isinstance(judge_poll(problem, age_s=1, misses=1, missing_s=0, overrides=config), Halt)
    assert isinstance(FirstCreates(accepted=False, overrides=config).judge(problem), Halt)


@given(refusals)
def test_x_should_retry_decides_only_about_unknown_errors(problem: Refused) -> None:
    with_hint, without = (
        deciding_rule(dataclasses.replace(problem, should_retry=hint), Phase.CREATE).name for hint in (True, None)
    )
    assert with_hint == without or (with_hint, without) == ("refused-for-now", "refused")
    against = deciding_rule(dataclasses.replace(problem, should_retry=False), Phase.CREATE).name
    assert against == without or (against, without) == ("server-error-for-good", "server-error")


@given(st.lists(problems, max_size=20), st.booleans())
def test_first_creates_never_treat_a_request_in_doubt_as_unsent(sequence: list[Problem], accepted: bool) -> None:
    guard = FirstCreates(accepted=accepted)
    for problem in sequence:
        alone, judged = judge_create(problem), guard.judge(problem)
        if accepted:
            assert judged == alone
        if isinstance(alone, InDoubt):
            assert judged == alone or (isinstance(judged, Halt) and judged.maybe_sent)
        elif isinstance(judged, Halt):
            assert not judged.maybe_sent
