"""Which endpoint takes a request: by weight, and never past a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.tasks.capacity import EndpointCapacity, FreePlaces, SharedCapacity, Shares
from orchestrator.policy.endpoint_choice import choose, closed_for_s
from orchestrator.policy.rate_limits.limits import Limiter

from .builders import NOW, a_prepared


def limiter(per_minute: int | None = None) -> Limiter:
    return Limiter(requests_per_minute=per_minute, tokens_per_minute=None, now=NOW - 60)


class Site:
    """Endpoints with a limit and a number of places each, at a clock that is moved by hand."""

    def __init__(self, weights: Sequence[float], *, limits: Sequence[int | None], places: int = 1_000) -> None:
        self.shares = Shares(weights)
        self.pools = [limiter(limit) for limit in limits]
        self.free = [places] * len(limits)
        self.taken = Counter[int]()

    def send(self, now: float, most: int) -> int:
        """Send what is admitted at a time."""
        capacities = {
            place: EndpointCapacity(pool, FreePlaces(0, 0), free=self.free[place], most=1_000)
            for place, pool in enumerate(self.pools)
        }
        capacity, sent = SharedCapacity(capacities, self.shares), 0
        while sent < most and (taken := capacity.take(now, a_prepared(sent))) is not None:
            self.taken[taken.endpoint] += 1
            sent += 1
        return sent


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=4))
def test_choices_follow_the_weights(weights: list[float]) -> None:
    earned, chosen = [0.0] * len(weights), Counter[int]()
    for _ in range(400):
        place, earned = choose(earned, weights, range(len(weights)))
        chosen[place] += 1
    for place, weight in enumerate(weights):
        assert chosen[place] == pytest.approx(400 * weight / sum(weights), abs=2)


def test_who_could_not_be_chosen_does_not_catch_up() -> None:
    earned = [0.0, 0.0]
    for _ in range(100):
        _, earned = choose(earned, [1.0, 1.0], [1])
    chosen = Counter[int]()
    for _ in range(100):
        place, earned = choose(earned, [1.0, 1.0], [0, 1])
        chosen[place] += 1
    assert chosen == {0: 50, 1: 50}


def test_weights_hold_while_the_speed_of_each_is_still_found() -> None:
    site = Site([3, 2, 1], limits=[None, None, None])
    for tenth in range(300):
        site.send(NOW + tenth / 10, 20)
    total = site.taken.total()
    assert total > 1_500
    for place, weight in enumerate((3, 2, 1)):
        assert site.taken[place] == pytest.approx(total * weight / 6, rel=0.03)


def test_all_limits_are_used_whatever_the_weights() -> None:
    site = Site([5, 1], limits=[1_200, 2_400])
    for place in range(2):
        site.pools[place].restore_values({"v": 1, "requests": None, "tokens": None, "pace": 60_000.0})
    for hundredth in range(12_000):
        site.send(NOW + hundredth / 100, 20)
    for place, limit in enumerate((1_200, 2_400)):
        assert 0.95 * limit * 2 <= site.taken[place] <= limit * 2 + limit / 60 + 1


def test_a_slow_endpoint_is_waited_for_two_seconds_of_thirty() -> None:
    site = Site([1, 1], limits=[None, None])
    site.free[0] = 0
    waited = sum(not site.send(NOW + tenth / 10, 1) for tenth in range(300))
    assert 18 <= waited <= 22
    assert site.taken[0] == 0


def test_a_closed_endpoint_is_tried_at_growing_intervals() -> None:
    assert [closed_for_s(times) for times in (1, 2, 3, 9, 99)] == [30, 60, 120, 600, 600]
