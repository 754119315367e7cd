"""Which errors of a stream are permanent."""

from __future__ import annotations

import pytest

from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.stream_errors import cannot_stream


@pytest.mark.parametrize(
    ("problem", "permanent"),
    [
        (Refused(status=400, message="This response was not created with 'stream'."), True),
        (Refused(status=405), True),
        (Refused(status=501), True),
        (Refused(status=404), False),
        (Refused(status=429), False),
        (Refused(status=500), False),
        (ReplyLost(reason="the server does not stream", status=200), True),
        (ReplyLost(reason="no answer within 60 s"), False),
        (NeverSent(reason="no connection"), False),
    ],
)
def test_whether_a_stream_is_possible(problem: Problem, permanent: bool) -> None:
    assert cannot_stream(problem) is permanent
