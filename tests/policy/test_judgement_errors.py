"""Every row of the error table, by problems as they are really met."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import CODES
from orchestrator.core.problems import Refused
from orchestrator.policy.errors.error_rules import Action, Phase, Reach
from orchestrator.policy.errors.error_table import ERROR_TABLE, deciding_rule
from orchestrator.policy.errors.judgement import judge_create, judge_poll, judgement_table, may_resend
from orchestrator.policy.errors.refusals import NO_MONEY
from orchestrator.policy.errors.verdicts import (
    Expired,
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
    assert deciding_rule(case.problem, case.met).name == name
    verdict = judge(case)
    if isinstance(case.verdict, tuple):
        kind, code = case.verdict
        assert isinstance(verdict, kind)
        assert getattr(verdict, "code", None) == code
    else:
        assert verdict == case.verdict


def test_no_row_of_the_table_is_without_a_case() -> None:
    assert list(CASES) == [rule.name for rule in ERROR_TABLE]


@pytest.mark.parametrize("code", sorted(NO_MONEY))
@pytest.mark.parametrize("met", list(Phase))
def test_every_code_for_lacking_money_stops_the_run(code: str, met: Phase) -> None:
    verdict = judge(Case(met, Refused(status=429, code=code, retry_after_s=1, should_retry=True), PollAgain()))
    assert isinstance(verdict, Halt)
    assert verdict.code == code
    assert verdict.hint


def test_a_halt_says_what_where_and_what_to_do() -> None:
    verdict = judge_create(Refused(status=401, code="invalid_api_key", message="Incorrect API key provided: sk-…"))
    assert isinstance(verdict, Halt)
    assert "refuses the key" in verdict.message
    assert "Incorrect API key" in verdict.message
    assert verdict.hint is not None
    assert "api_key_env" in verdict.hint


def test_what_stops_a_run_always_says_why_in_words() -> None:
    silent = [
        rule.name
        for rule in ERROR_TABLE
        if (rule.action is Action.HALT or (rule.reach is Reach.JOB and Phase.CREATE in rule.met)) and not rule.says
    ]
    assert silent == []


def test_a_wait_that_the_provider_asks_for_is_taken_up_to_an_hour() -> None:
    assert judge_create(Refused(status=429, retry_after_s=0)) == RateLimited(0)
    assert judge_create(Refused(status=429, retry_after_s=1e12)) == RateLimited(3600)
    assert judge_create(Refused(status=429, retry_after_s=float("nan"))) == RateLimited(None)


NOT_FOUND = Refused(status=404, message="Response with id 'resp_1' not found.")


@pytest.mark.parametrize(
    ("age_s", "misses", "missing_s", "verdict"),
    [
        pytest.param(3, 1, 0, PollAgain(2.0, missing=True), id="the first one comes back soon"),
        pytest.param(10, 3, 7, PollAgain(5.0, missing=True), id="a young one is looked for often"),
        pytest.param(59, 30, 58, PollAgain(5.0, missing=True), id="however often it was missed"),
        pytest.param(90, 12, 88, PollAgain(20.0, missing=True), id="then at leisure"),
        pytest.param(119, 14, 118, PollAgain(20.0, missing=True), id="three times more"),
        pytest.param(120, 15, 119, Expired(NOT_FOUND.message), id="then it has expired"),
        pytest.param(7200, 1, 0, PollAgain(2.0, missing=True), id="an old one may be a passing fault"),
        pytest.param(7200, 3, 60, PollAgain(20.0, missing=True), id="an old one was not looked for often enough"),
        pytest.param(7200, 4, 59, PollAgain(20.0, missing=True), id="an old one was not looked for long enough"),
        pytest.param(7200, 4, 60, Expired(NOT_FOUND.message), id="an old one that stays unknown has expired"),
    ],
)
def test_a_response_that_is_not_found(age_s: float, misses: int, missing_s: float, verdict: Verdict) -> None:
    assert judge_poll(NOT_FOUND, age_s=age_s, misses=misses, missing_s=missing_s) == verdict


def test_a_request_in_doubt_is_sent_again_only_where_that_is_known_to_be_cheap() -> None:
    assert may_resend(49, below_pusd=50)
    assert not may_resend(50, below_pusd=50)
    assert not may_resend(None, below_pusd=50)
    assert not may_resend(0, below_pusd=0)


def test_codes_of_ours_in_the_table_are_documented() -> None:
    ours = {rule.code for rule in ERROR_TABLE if rule.code} | {InDoubt().code, Expired("").code}
    # The provider's own word is missing there, so the code says just that.
    assert ours - set(CODES) <= {"response_failed"}


def test_the_printed_table_has_every_row_once_and_no_empty_cell() -> None:
    rows = judgement_table()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert set(names) > set(CASES)
    assert all(row.met and row.when and row.then and row.why for row in rows)
    assert next(row.when for row in rows if row.name == "gateway") == "HTTP 502, 504, 520-524"
    assert next(row.when for row in rows if row.name == "look-refused") == "anything else"
    then = {row.name: row.then for row in rows}
    assert then["never-sent"] == "outage connection_failed"
    assert then["gateway"] == "in doubt"
    assert then["look-lost"] == "look again"
    assert then["failed-rate-limited"] == "retry, and the limiter hears of it"
    assert then["failed-image-download"] == "retry, at most 2 attempts"
