"""Which errors of a provider are transient."""

from __future__ import annotations

import pytest

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.core.provider_error import is_transient, is_transient_status, message_of


@pytest.mark.parametrize("status", [408, 409, 423, 425, 429, 500, 502, 503, 504, 522])
def test_transient_statuses(status: int) -> None:
    assert is_transient_status(status)


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 405, 410, 413, 422])
def test_permanent_statuses(status: int) -> None:
    assert not is_transient_status(status)


@pytest.mark.parametrize(
    ("problem", "transient"),
    [
        (NeverSent(reason="no connection"), True),
        (ReplyLost(reason="timeout"), True),
        (Refused(status=503), True),
        (Refused(status=400), False),
        (Refused(status=503, should_retry=False), False),
        (Refused(status=400, should_retry=True), True),
    ],
)
def test_the_hint_of_the_provider_takes_precedence(problem: Problem, transient: bool) -> None:
    assert is_transient(problem) is transient


def test_the_message_of_a_problem() -> None:
    assert message_of(NeverSent(reason="no connection")) == "no connection"
    assert message_of(Refused(status=400, message="wrong")) == "wrong"
    assert message_of(Refused(status=400)) == "HTTP 400"
