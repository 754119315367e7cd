"""A wrong job or config halts a run at its first calls; a wrong row never does."""

from __future__ import annotations

import pytest

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Action, Override
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls
from orchestrator.policy.errors.verdicts import Expired, Fail, Halt, InDoubt, Later, PollAgain, Retry

UNKNOWN_MODEL = Refused(status=404, code="model_not_found", param="model", message="The model 'gtp-5' does not exist")
TOO_LONG = Refused(status=400, code="context_length_exceeded", message="too long")
WEB_PAGE = ReplyLost(reason="the reply is a web page", status=200)
NOT_FOUND = Refused(status=404, message="not found")


def test_the_third_refusal_before_any_acceptance_halts_the_run_and_fails_no_row() -> None:
    guard = FirstCreates(accepted=False)
    assert [guard.judge(UNKNOWN_MODEL) for _ in range(2)] == [Later(1.0), Later(1.0)]
    verdict = guard.judge(UNKNOWN_MODEL)
    assert isinstance(verdict, Halt)
    assert verdict.code == "model_not_found"
    assert "The model 'gtp-5' does not exist" in verdict.message
    assert verdict.hint is not None
    assert "request.model" in verdict.hint
    assert not verdict.maybe_sent


def test_requests_in_flight_at_that_time_do_not_fail_either() -> None:
    guard = FirstCreates(accepted=False)
    verdicts = [guard.judge(UNKNOWN_MODEL) for _ in range(200)]
    assert all(isinstance(verdict, Halt) for verdict in verdicts[2:])


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(Refused(status=400, code="unsupported_parameter", param="temperature"), id="parameter"),
        pytest.param(Refused(status=422, message="field required"), id="unknown refusal"),
        pytest.param(Refused(status=404, message="Not Found"), id="wrong path"),
        pytest.param(Refused(status=301, message="redirected to https://x"), id="redirect"),
        pytest.param(Refused(status=405), id="method not allowed"),
        pytest.param(Refused(status=501), id="not implemented"),
    ],
)
def test_a_fault_of_the_job_or_config_halts_a_run_before_any_acceptance(problem: Problem) -> None:
    guard = FirstCreates(accepted=False)
    verdicts = [guard.judge(problem) for _ in range(3)]
    assert [type(verdict) for verdict in verdicts] == [Later, Later, Halt]


def test_after_one_accepted_request_a_refusal_fails_its_row_alone() -> None:
    guard = FirstCreates(accepted=False)
    guard.judge(UNKNOWN_MODEL)
    guard.accepted()
    assert all(guard.judge(UNKNOWN_MODEL) == Fail("model_not_found", UNKNOWN_MODEL.message) for _ in range(10))
    assert isinstance(guard.judge(NOT_FOUND), Retry)


def test_a_resumed_run_knows_that_a_request_was_accepted() -> None:
    assert isinstance(FirstCreates(accepted=True).judge(UNKNOWN_MODEL), Fail)


def test_wrong_rows_never_halt_the_run() -> None:
    guard = FirstCreates(accepted=False)
    assert all(guard.judge(TOO_LONG) == Fail("context_length_exceeded", "too long") for _ in range(100))


def test_the_config_can_make_a_refusal_fail_its_row_alone() -> None:
    guard = FirstCreates(accepted=False, overrides=[Override(action=Action.FAIL, status=422)])
    assert all(isinstance(guard.judge(Refused(status=422)), Fail) for _ in range(10))


def test_an_outage_at_the_start_does_not_count_as_a_fault_of_the_job() -> None:
    guard = FirstCreates(accepted=False)
    for _ in range(10):
        assert not isinstance(guard.judge(NeverSent(reason="refused")), Halt)
        assert not isinstance(guard.judge(Refused(status=503)), Halt)
        assert guard.judge(Refused(status=502)) == InDoubt(message="HTTP 502")


def test_an_address_that_answers_with_web_pages_halts_the_run_with_its_requests_in_doubt() -> None:
    guard = FirstCreates(accepted=False)
    assert [guard.judge(WEB_PAGE) for _ in range(2)] == [InDoubt(message=WEB_PAGE.reason)] * 2
    verdict = guard.judge(WEB_PAGE)
    assert isinstance(verdict, Halt)
    assert verdict.code == "unreadable_reply"
    assert verdict.maybe_sent
    assert "web page" in verdict.message


def test_creates_whose_replies_are_unreadable_fail_and_the_third_halts_the_run() -> None:
    """None is put back: each was received and may be paid for."""
    guard = FirstCreates(accepted=False)
    reply = ReplyLost(reason="no id", status=200, unreadable=True)
    assert [guard.judge(reply) for _ in range(2)] == [Fail("unreadable_reply", "no id")] * 2
    verdict = guard.judge(reply)
    assert isinstance(verdict, Halt)
    assert (verdict.code, verdict.maybe_sent) == ("unreadable_reply", True)


def test_a_message_that_may_quote_a_prompt_is_left_out() -> None:
    guard = FirstCreates(accepted=False)
    secret = Refused(status=400, code="invalid_value", param="input[0].content", message="'my secret' is not valid")
    verdict = [guard.judge(secret) for _ in range(3)][-1]
    assert isinstance(verdict, Halt)
    assert "my secret" not in verdict.message
    assert "input[0].content" in verdict.message


def old_miss(guard: FirstPolls) -> object:
    return guard.judge(NOT_FOUND, age_s=600, misses=4, missing_s=60)


def test_a_server_that_keeps_no_responses_halts_the_run_early() -> None:
    guard = FirstPolls(seen=False)
    assert guard.judge(NOT_FOUND, age_s=1, misses=1, missing_s=0) == PollAgain(2.0, missing=True)
    assert [old_miss(guard) for _ in range(2)] == [Expired("not found")] * 2
    verdict = old_miss(guard)
    assert isinstance(verdict, Halt)
    assert verdict.code == "response_expired"


def test_after_one_found_response_an_expired_one_does_not_halt_the_run() -> None:
    guard = FirstPolls(seen=False)
    old_miss(guard)
    guard.seen()
    assert [old_miss(guard) for _ in range(10)] == [Expired("not found")] * 10
