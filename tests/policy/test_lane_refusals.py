"""A refusal is the lane's fault only if it names what the lane has put into the request."""

from __future__ import annotations

import pytest

from orchestrator.core.lanes import Lane
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.lane_refusals import refuses_lane

BY_PARAM = Refused(status=400, param="background_options.completion_window", message="not supported with this model")
BY_WORDS = Refused(status=400, message="Unknown field 'background_options'.")
BY_TIER = Refused(status=400, message="Invalid service_tier argument")


@pytest.mark.parametrize(
    ("lane", "problem", "refuses"),
    [
        (Lane.WINDOW_2H, BY_PARAM, True),
        (Lane.WINDOW_8H, BY_WORDS, True),
        (Lane.WINDOW_8H, BY_TIER, False),
        (Lane.FLEX, BY_TIER, True),
        (Lane.FLEX, BY_PARAM, False),
        (Lane.BACKGROUND, BY_PARAM, False),
        (Lane.SYNC, BY_TIER, False),
        (Lane.WINDOW_2H, Refused(status=400, param="input", message="too long"), False),
        # No capacity, and no readable answer, say nothing about the model.
        (Lane.FLEX, Refused(status=429, message="service_tier flex: resource unavailable"), False),
        (Lane.WINDOW_2H, Refused(status=500, param="background_options.completion_window"), False),
        (Lane.WINDOW_2H, NeverSent(reason="completion_window"), False),
        (Lane.WINDOW_2H, ReplyLost(reason="completion_window"), False),
    ],
)
def test_a_lane_is_refused_by_its_own_fields(lane: Lane, problem: Problem, refuses: bool) -> None:
    assert refuses_lane(lane, problem) is refuses
