"""Every row of the error table, with problems as they really occur."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import CODES
from orchestrator.core.problems import Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Action, Phase, Reach
from orchestrator.policy.errors.error_table import ERROR_TABLE, deciding_rule
from orchestrator.policy.errors.judgement import judge_create, judge_poll, judgement_table, may_resend
from orchestrator.policy.errors.refusals import NO_MONEY
from orchestrator.policy.errors.verdicts import (
    Expired,
    Fail,
    Halt,
    InDoubt,
    PollAgain,
    RateLimited,
    Verdict,
)
from tests.policy.error_cases import CASES, Case, judge


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{number}" if number else name)
        for name, cases in CASES.items()
        for number, case in enumerate(cases)
    ],
)
def test_each_row_of_the_table(name: str, case: Case) -> None:
    assert deciding_rule(case.problem, case.phase).name == name
    verdict = judge(case)
    if isinstance(case.verdict, tuple):
        kind, code = case.verdict
        assert isinstance(verdict, kind)
        assert getattr(verdict, "code", None) == code
    else:
        assert verdict == case.verdict


def test_each_row_of_the_table_has_a_case() -> None:
    assert list(CASES) == [rule.name for rule in ERROR_TABLE]


@pytest.mark.parametrize("code", sorted(NO_MONEY))
@pytest.mark.parametrize("phase", list(Phase))
def test_each_code_for_a_lack_of_credit_halts_the_run(code: str, phase: Phase) -> None:
    verdict = judge(Case(phase, Refused(status=429, code=code, retry_after_s=1, should_retry=True), PollAgain()))
    assert isinstance(verdict, Halt)
    assert verdict.code == code
    assert verdict.hint


def test_a_halt_names_the_cause_and_a_fix() -> None:
    verdict = judge_create(Refused(status=401, code="invalid_api_key", message="Incorrect API key provided: sk-…"))
    assert isinstance(verdict, Halt)
    assert "refuses the key" in verdict.message
    assert "Incorrect API key" in verdict.message
    assert verdict.hint is not None
    assert "api_key_env" in verdict.hint


def test_each_rule_that_halts_a_run_has_a_message() -> None:
    silent = [
        rule.name
        for rule in ERROR_TABLE
        if (rule.action is Action.HALT or (rule.reach is Reach.JOB and Phase.CREATE in rule.phases)) and not rule.says
    ]
    assert silent == []


def test_retry_after_is_capped_at_an_hour() -> None:
    assert judge_create(Refused(status=429, retry_after_s=0)) == RateLimited(0)
    assert judge_create(Refused(status=429, retry_after_s=1e12)) == RateLimited(3600)
    assert judge_create(Refused(status=429, retry_after_s=float("nan"))) == RateLimited(None)


NOT_FOUND = Refused(status=404, message="Response with id 'resp_1' not found.")


@pytest.mark.parametrize(
    ("age_s", "misses", "missing_s", "verdict"),
    [
        pytest.param(3, 1, 0, PollAgain(2.0, missing=True), id="the first miss is polled again soon"),
        pytest.param(10, 3, 7, PollAgain(5.0, missing=True), id="a new one is polled often"),
        pytest.param(59, 30, 58, PollAgain(5.0, missing=True), id="however often it was missed"),
        pytest.param(90, 12, 88, PollAgain(20.0, missing=True), id="then less often"),
        pytest.param(119, 14, 118, PollAgain(20.0, missing=True), id="three more times"),
        pytest.param(120, 15, 119, Expired(NOT_FOUND.message), id="then it has expired"),
        pytest.param(7200, 1, 0, PollAgain(2.0, missing=True), id="for an old one it may be a transient fault"),
        pytest.param(7200, 3, 60, PollAgain(20.0, missing=True), id="an old one was not polled often enough"),
        pytest.param(7200, 4, 59, PollAgain(20.0, missing=True), id="an old one was not polled long enough"),
        pytest.param(7200, 4, 60, Expired(NOT_FOUND.message), id="an old one that stays unknown has expired"),
    ],
)
def test_a_response_that_is_not_found(age_s: float, misses: int, missing_s: float, verdict: Verdict) -> None:
    assert judge_poll(NOT_FOUND, age_s=age_s, misses=misses, missing_s=missing_s) == verdict


@pytest.mark.parametrize("response_id", [None, "resp_1"])
def test_a_reply_that_stays_unreadable_is_given_up_at_its_fifth_poll(response_id: str | None) -> None:
    reply = ReplyLost(reason="not JSON", status=200, response_id=response_id, unreadable=True)
    verdicts = [judge_poll(reply, age_s=1, misses=n, missing_s=0, unreadable=n) for n in range(1, 6)]
    assert verdicts == [PollAgain()] * 4 + [Fail("unreadable_reply", "not JSON")]


@pytest.mark.parametrize("response_id", [None, "resp_1"])
def test_a_reply_beyond_the_limit_is_not_fetched_again(response_id: str | None) -> None:
    reply = ReplyLost(reason="too large", status=200, response_id=response_id, unreadable=True, too_large=True)
    assert judge_poll(reply, age_s=1, misses=1, missing_s=0, unreadable=1) == Fail("unreadable_reply", "too large")


def test_a_request_in_doubt_is_sent_again_only_if_its_worst_case_is_known_and_cheap() -> None:
    assert may_resend(49, below_pusd=50)
    assert not may_resend(50, below_pusd=50)
    assert not may_resend(None, below_pusd=50)
    assert not may_resend(0, below_pusd=0)


def test_codes_of_ours_in_the_table_are_documented() -> None:
    ours = {rule.code for rule in ERROR_TABLE if rule.code} | {InDoubt().code, Expired("").code}
    # Used if the provider gives no code of its own.
    assert ours - set(CODES) <= {"response_failed"}


def test_the_printed_table_has_every_row_once_and_no_empty_cell() -> None:
    rows = judgement_table()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert set(names) > set(CASES)
    assert all(row.phase and row.when and row.then and row.why for row in rows)
    assert next(row.when for row in rows if row.name == "gateway") == "HTTP 502, 504, 520-524"
    assert next(row.when for row in rows if row.name == "poll-refused") == "anything else"
    then = {row.name: row.then for row in rows}
    assert then["never-sent"] == "outage connection_failed"
    assert then["gateway"] == "in doubt"
    assert then["poll-lost"] == "poll again"
    assert then["failed-rate-limited"] == "retry, and slow down as rate-limited"
    assert then["failed-image-download"] == "retry, at most 2 attempts"
