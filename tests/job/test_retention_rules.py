"""What is due to be deleted at a moment, and what the errors of deletions mean."""

from __future__ import annotations

import pytest

from orchestrator.app.ask import Again
from orchestrator.app.retention.deletions import (
    Gone,
    Impossible,
    Left,
    Verdict,
    judge_deletion,
    judge_disappearance,
)
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.job.retention import DeleteAfter, RetentionSection, delete_ended_before
from orchestrator.policy.errors.error_rules import Action, Override, Phase

WEEK = 7 * 86_400.0


def test_what_is_kept_is_never_due() -> None:
    assert delete_ended_before(RetentionSection(), now=9e9, exported_at=1.0) is None


def test_what_waits_for_an_export_is_due_as_far_as_the_file_has_it() -> None:
    retention = RetentionSection(provider="delete_after_export")
    assert delete_ended_before(retention, now=500.0, exported_at=None) is None
    assert delete_ended_before(retention, now=500.0, exported_at=300.0) == 300.0


def test_what_must_be_kept_for_a_week_is_due_a_week_after_its_end() -> None:
    assert (
        delete_ended_before(RetentionSection(provider=DeleteAfter(delete_after=WEEK)), now=WEEK + 5, exported_at=None)
        == 5.0
    )


@pytest.mark.parametrize(
    ("problem", "deleting", "fetching"),
    [
        (Refused(status=404, message="not found"), Impossible, Gone),
        (Refused(status=410), Impossible, Gone),
        (Refused(status=405), Impossible, Left),
        (Refused(status=401), Impossible, Impossible),
        (Refused(status=403), Impossible, Impossible),
        (Refused(status=400, code="in_use"), Left, Left),
        (Refused(status=409), Again, Again),
        (Refused(status=500), Again, Again),
        (Refused(status=503), Again, Again),
        (NeverSent(reason="no connection"), Again, Again),
        (ReplyLost(reason="no answer within 60 s"), Again, Again),
    ],
)
def test_each_error_has_one_meaning(problem: Problem, deleting: type[Verdict], fetching: type[Verdict]) -> None:
    assert isinstance(judge_deletion(problem), deleting)
    assert isinstance(judge_disappearance(problem), fetching)


def test_the_limiter_observes_only_rate_limits() -> None:
    limited = judge_deletion(Refused(status=429, code="rate_limit_exceeded", retry_after_s=3.0))
    assert isinstance(limited, Again)
    assert (limited.rate_limited, limited.after_s) == (True, 3.0)
    failed = judge_deletion(Refused(status=500))
    assert isinstance(failed, Again)
    assert not failed.rate_limited


def test_a_server_that_says_missing_in_its_own_way_is_understood() -> None:
    override = Override(action=Action.MISSING, status=400, text="unknown id", phase=Phase.POLL)
    problem = Refused(status=400, message="Unknown id resp_1")
    assert isinstance(judge_disappearance(problem), Left)
    assert isinstance(judge_disappearance(problem, [override]), Gone)
