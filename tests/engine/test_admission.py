"""Which requests leave the queues: strictly in order within a model, and never past a limit."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.events import Progress
from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.observation import Observation
from orchestrator.engine.outages import Outages
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.tasks.admission import Admission, admit
from orchestrator.engine.tasks.capacity import FreePlaces
from orchestrator.engine.tasks.run_capacity import free_places
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.policy.pricing.budget import Budget, Cap, SetApart
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.policy.rate_limits.places import OpenPlaces
from orchestrator.testing import FakeClock

from .builders import NOW, a_prepared, a_stage, allowances, an_endpoint, capacity_at


def decide(
    *queue: Prepared, places: int = 100, cap: int | None = None, tokens: int | None = None, more: Any = None
) -> Admission:
    queues = {QueueName("main", "gpt-5-mini", Lane.BACKGROUND): deque(queue)} | (more or {})
    budget = Budget([] if cap is None else [Cap(scope="run", limit_pusd=cap, committed_pusd=0)])
    # Idle for a second, so one second's worth may go at once: 100 requests, and a sixtieth of the tokens.
    pools = Pools(requests_per_minute=None, tokens_per_minute=tokens, now=NOW - 1)
    return admit(NOW, queues, budget=budget, capacity_of=capacity_at(pools, lambda _: places))


def ids(prepared: tuple[Prepared, ...]) -> list[int]:
    return [each.request.id for each in prepared]


def test_all_go_in_order_if_nothing_holds_them() -> None:
    decision = decide(*map(a_prepared, (3, 1, 2)))
    assert ids(decision.admitted) == [3, 1, 2]
    assert decision == Admission(decision.admitted)


@pytest.mark.parametrize("places", [0, 1, 2])
def test_no_more_than_the_free_places_are_admitted(places: int) -> None:
    decision = decide(*map(a_prepared, (1, 2, 3)), places=places)
    assert len(decision.admitted) == places
    assert decision.held_by is None
    assert decision.ask_again_at is None


def test_the_budget_holds_the_rest_and_nothing_overtakes() -> None:
    small, large = (a_prepared(number, worst_case_pusd=cost) for number, cost in ((1, 60), (2, 50)))
    decision = decide(small, large, a_prepared(3, worst_case_pusd=1), cap=100)
    assert ids(decision.admitted) == [1]
    assert decision.held_by == "budget"
    assert decision.ask_again_at is None


def test_the_rate_limit_holds_a_model_and_says_when_to_ask_again() -> None:
    other = {QueueName("main", "gpt-5", Lane.BACKGROUND): deque([a_prepared(9, model="gpt-5", tokens=100)])}
    decision = decide(*(a_prepared(number, tokens=600) for number in (1, 2)), tokens=60_000, more=other)
    assert ids(decision.admitted) == [1, 9]
    assert decision.held_by == "rate limit"
    assert decision.ask_again_at is not None
    assert decision.ask_again_at > NOW


def test_a_request_beyond_the_limit_of_a_minute_leaves_the_queue_unsent() -> None:
    decision = decide(a_prepared(1, tokens=70_000), a_prepared(2), tokens=60_000)
    assert ids(decision.oversized) == [1]
    assert ids(decision.admitted) == [2]


def test_what_the_rate_limit_holds_back_reserves_nothing() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100, committed_pusd=0)])
    pools = Pools(requests_per_minute=None, tokens_per_minute=6_000, now=NOW - 1)
    queue = deque([a_prepared(1, tokens=90), a_prepared(2, tokens=90)])
    admit(
        NOW, {QueueName("main", "gpt-5-mini", Lane.BACKGROUND): queue}, budget=budget, capacity_of=capacity_at(pools)
    )
    assert budget.reserved_pusd == 10
    assert len(queue) == 1


def test_a_stage_that_leaves_money_to_another_does_not_hold_it_up() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100)], set_apart={"last": SetApart(50)})
    pools = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW - 1)
    queues = {
        QueueName("first", "gpt-5-mini", Lane.BACKGROUND): deque([a_prepared(1, worst_case_pusd=60)]),
        QueueName("last", "gpt-5-mini", Lane.BACKGROUND): deque([a_prepared(2, worst_case_pusd=50)]),
    }
    decision = admit(NOW, queues, budget=budget, capacity_of=capacity_at(pools))
    assert (ids(decision.admitted), decision.held_by) == ([2], "budget")


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(0, 12), st.integers(0, 1_000))
def test_admission_is_a_prefix_within_budget_and_places(costs: list[int], places: int, cap: int) -> None:
    queue = [a_prepared(number, worst_case_pusd=cost) for number, cost in enumerate(costs)]
    decision = decide(*queue, places=places, cap=cap)
    assert list(decision.admitted) == queue[: len(decision.admitted)]
    assert len(decision.admitted) <= places
    assert sum(each.worst_case_pusd or 0 for each in decision.admitted) <= cap


def outages() -> Outages:
    return Outages(Observation(Progress(started_at=NOW), lambda _: None, FakeClock(NOW)), random.Random(1))


def places(
    status: RunStatus, *, broken: Outages | None = None, accepted: bool = True, warm_cache: bool = False
) -> int:
    stages = {"main": a_stage(accepted=accepted, warm_cache=warm_cache)}
    endpoint = an_endpoint(allowances=allowances(places=OpenPlaces(200)), sending=status.sending)
    if broken is not None:
        endpoint.outages = broken
    return free_places(NOW, status, stages, 0, endpoint, status.in_flight).short


def test_places_are_bounded_by_calls_and_by_what_is_in_flight() -> None:
    assert places(RunStatus()) == 128
    assert places(RunStatus(sending=100)) == 28
    assert places(RunStatus(sending=10, running_tools=180)) == 10
    assert places(RunStatus(sending=10, running_tools=500)) == 0


def test_calls_that_are_held_have_places_of_their_own() -> None:
    stages = {"main": a_stage()}
    busy = RunStatus(sending=120)
    endpoint = an_endpoint(allowances=allowances(places=OpenPlaces(500), held_at_once=24), sending=120, holding=20)
    assert free_places(NOW, busy, stages, 0, endpoint, 120) == FreePlaces(short=28, held=4)
    # All together are in flight, whichever lane they take.
    endpoint.allowances = allowances(places=OpenPlaces(122), held_at_once=24)
    assert free_places(NOW, busy, stages, 0, endpoint, 120) == FreePlaces(short=2, held=2)


def test_a_lane_without_a_place_does_not_hold_up_another() -> None:
    pools, budget = Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW - 1), Budget([])
    lanes = (Lane.SYNC, Lane.BATCH, Lane.BACKGROUND)
    queues = {
        QueueName("main", "gpt-5-mini", lane): deque([a_prepared(n, lane=lane)]) for n, lane in enumerate(lanes)
    }
    capacity_of = capacity_at(pools, lambda lane: int(lane is Lane.BACKGROUND))
    decision = admit(NOW, queues, budget=budget, capacity_of=capacity_of)
    assert ids(decision.admitted) == [2]


def test_fewer_go_until_the_first_one_is_accepted() -> None:
    assert places(RunStatus(), accepted=False) == 64


def test_the_first_request_goes_alone_to_warm_the_cache() -> None:
    assert places(RunStatus(), warm_cache=True) == 1
    assert places(RunStatus(running_tools=1), warm_cache=True) == 0


def test_in_an_outage_one_probe_goes_at_a_time() -> None:
    broken = outages()
    for _ in range(20):
        broken.record_failure(broken.creates, NOW, "server_error", again=False)
    assert places(RunStatus(), broken=broken) == 0
    probe_at = broken.next_probe_at
    assert probe_at is not None
    stages = {"main": a_stage()}
    assert free_places(probe_at, RunStatus(), stages, 0, an_endpoint(outages=broken), 0) == FreePlaces(1, 1)
