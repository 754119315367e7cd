"""Overrides of error rules in the config, and the built-in server profiles."""

from __future__ import annotations

import pytest

from orchestrator.core.model import Response
from orchestrator.core.problems import Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Action, Override, Phase
from orchestrator.policy.errors.judgement import AnswerPolicy, judge_create, judge_poll, judge_response
from orchestrator.policy.errors.profiles import PROFILES, overrides_for
from orchestrator.policy.errors.verdicts import (
    Expired,
    Fail,
    Full,
    Halt,
    InDoubt,
    Outage,
    PollAgain,
    RateLimited,
    Retry,
    Verdict,
)

QUEUE_FULL = Refused(status=400, message="Background queue is full (100). Please try again later.")


def test_the_ogx_profile_lowers_the_places_at_a_full_queue() -> None:
    assert judge_create(QUEUE_FULL) == Fail("http_400", QUEUE_FULL.message)
    assert judge_create(QUEUE_FULL, overrides=overrides_for("ogx")) == Full()
    assert isinstance(judge_create(Refused(status=400), overrides=overrides_for("ogx")), Fail)


def test_the_litellm_profile_treats_what_it_does_not_find_as_missing() -> None:
    unknown = Refused(status=400, message="response not found")
    profile = overrides_for("litellm")
    assert judge_poll(unknown, age_s=600, misses=4, missing_s=60) == PollAgain()
    assert judge_poll(unknown, age_s=600, misses=4, missing_s=60, overrides=profile) == Expired("response not found")
    assert isinstance(judge_create(unknown, overrides=profile), Fail)
    other = Refused(status=400, message="malformed")
    assert judge_poll(other, age_s=600, misses=4, missing_s=60, overrides=profile) == PollAgain()


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_has_a_rule_as_wide_as_a_status(profile: str) -> None:
    assert all(rule.code or rule.text for rule in PROFILES[profile].overrides)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_key_that_litellm_cannot_check_halts(profile: str) -> None:
    wrong = Refused(status=400, code="400", type="no_db_connection", message="No connected db.")
    overrides = overrides_for(profile)
    for verdict in (
        judge_create(wrong, overrides=overrides),
        judge_poll(wrong, age_s=600, misses=4, missing_s=60, overrides=overrides),
    ):
        assert isinstance(verdict, Halt)
        assert verdict.code == "no_db_connection"


def test_each_profile_has_a_description() -> None:
    assert all(profile.about for profile in PROFILES.values())
    assert overrides_for("openai") == ()


def test_a_users_override_takes_precedence_over_the_profile() -> None:
    own = Override(action=Action.HALT, status=400, text="queue is full")
    assert isinstance(judge_create(QUEUE_FULL, overrides=overrides_for("ogx", [own])), Halt)


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        (Action.RETRY, Retry("e", None, "m")),
        (Action.RATE_LIMITED, RateLimited()),
        (Action.SLOW_DOWN, RateLimited(slow_down=True)),
        (Action.OUTAGE, Outage("e", None, "m")),
        (Action.FAIL, Fail("e", "m")),
        (Action.IN_DOUBT, InDoubt(message="m")),
        (Action.HALT, Halt("e", "this error stops the run, as the config asks (m)")),
    ],
)
def test_each_class_of_a_create(action: Action, verdict: Verdict) -> None:
    problem = Refused(status=499, code="e", message="m")
    assert judge_create(problem, overrides=[Override(action=action, status=499)]) == verdict


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        (Action.RETRY, PollAgain()),
        (Action.RATE_LIMITED, RateLimited()),
        (Action.OUTAGE, PollAgain(outage=True)),
        (Action.MISSING, PollAgain(2.0, missing=True)),
        (Action.HALT, Halt("e", "this error stops the run, as the config asks (m)")),
    ],
)
def test_each_class_of_a_poll(action: Action, verdict: Verdict) -> None:
    problem = Refused(status=499, code="e", message="m")
    overrides = [Override(action=action, status=499, phase=Phase.POLL)]
    assert judge_poll(problem, age_s=1, misses=1, missing_s=0, overrides=overrides) == verdict


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        (Action.RETRY, Retry("e", None, "m")),
        (Action.RATE_LIMITED, Retry("e", None, "m", rate_limited=True)),
        (Action.OUTAGE, Retry("e", None, "m", outage=True)),
        (Action.FAIL, Fail("e", "m")),
        (Action.HALT, Halt("e", "this error stops the run, as the config asks (m)")),
    ],
)
def test_each_class_of_a_failed_response(action: Action, verdict: Verdict) -> None:
    response = Response(id="r", status="failed", ended=True, body=b"", error_code="e", error_message="m")
    assert (
        judge_response(response, AnswerPolicy(), overrides=[Override(action=action, code="e", phase=Phase.FAILED)])
        == verdict
    )


def test_all_conditions_must_match_and_text_in_any_case() -> None:
    override = Override(action=Action.RATE_LIMITED, status=400, code="busy", text="TRY (again)")
    assert (
        judge_create(Refused(status=400, code="busy", message="please try (again)"), overrides=[override])
        == RateLimited()
    )
    for problem in (
        Refused(status=402, code="busy", message="try (again)"),
        Refused(status=400, code="other", message="try (again)"),
        Refused(status=400, code="busy", message="try again"),
    ):
        assert judge_create(problem, overrides=[override]) != RateLimited()


def test_an_override_of_a_lack_of_credit_must_name_its_code() -> None:
    broke = Refused(status=429, code="insufficient_quota", message="You exceeded your current quota")
    for override in (
        Override(action=Action.RATE_LIMITED, status=429),
        Override(action=Action.RETRY, status=429, text="quota"),
    ):
        assert isinstance(judge_create(broke, overrides=[override]), Halt)
    named = Override(action=Action.RATE_LIMITED, code="insufficient_quota")
    assert judge_create(broke, overrides=[named]) == RateLimited()


def test_a_lost_reply_is_in_doubt_whatever_the_config_says() -> None:
    override = Override(action=Action.RETRY, status=200)
    assert isinstance(judge_create(ReplyLost(reason="x", status=200), overrides=[override]), InDoubt)


def test_an_override_without_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="none is given"):
        Override(action=Action.RETRY)


@pytest.mark.parametrize(
    ("action", "phase"),
    [
        (Action.MISSING, Phase.CREATE),
        (Action.LATER, Phase.CREATE),
        (Action.FAIL, Phase.POLL),
        (Action.IN_DOUBT, Phase.FAILED),
    ],
)
def test_a_class_that_is_impossible_in_that_phase_is_refused(action: Action, phase: Phase) -> None:
    with pytest.raises(ValueError, match="rate_limited"):
        Override(action=action, status=400, phase=phase)
