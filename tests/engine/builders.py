"""Short ways to the parts that the engine's tasks share."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from orchestrator.core.events import Progress, RunEvent
from orchestrator.core.lanes import Lane
from orchestrator.engine.allowances import Allowances
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, OpenResponse, Prepared
from orchestrator.engine.observation import Observation
from orchestrator.engine.outages import Outages
from orchestrator.engine.poll_schedules import Schedules
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import RunEndpoint
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.settings import StageSettings
from orchestrator.engine.stages import Stage
from orchestrator.engine.steps import OtherRuns, Recover, Settle
from orchestrator.engine.tasks.capacity import EndpointCapacity, FreePlaces
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.executors.registry import Executors
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls
from orchestrator.policy.polling.deadlines import Timeouts
from orchestrator.policy.pricing.budget import Budget, Cap
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.rate_limits.limits import Limiter, Pools
from orchestrator.policy.rate_limits.places import OpenPlaces
from orchestrator.provider.batches import BatchClient
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import PendingRequest, Run
from orchestrator.testing import FakeClock

NOW = 1_790_000_000.0


def a_stage(name: str = "main", *, accepted: bool = True, **settings: Any) -> Stage:
    plain: dict[str, Any] = {
        "attempts": 5,
        "timeouts": Timeouts(queued_s=60, run_s=60),
        "resend_below_pusd": 0,
    }
    chosen = StageSettings(**(plain | settings))
    return Stage(
        name=name,
        settings=chosen,
        first_creates=[FirstCreates(accepted=accepted)],
        first_polls=[FirstPolls(seen=accepted)],
        schedules=Schedules(random.Random(1), polls_per_minute=6_000),
        cache_is_warm=not chosen.warm_cache,
    )


def a_request(number: int, **changes: Any) -> PendingRequest:
    values: dict[str, Any] = {
        "id": number,
        "key": f"row-{number}",
        "stage": "main",
        "where": f"rows.jsonl:{number}",
        "attempts": 0,
        "number": 0,
        "epoch": 0,
        "not_before": 0.0,
        "max_output_tokens": None,
        "row": b"{}",
    }
    return PendingRequest(**(values | changes))


def a_prepared(request: PendingRequest | int, **changes: Any) -> Prepared:
    values: dict[str, Any] = {
        "request": a_request(request) if isinstance(request, int) else request,
        "number": 1,
        "body": b"{}",
        "model": "gpt-5-mini",
        "service_tier": None,
        "window": None,
        "tokens": 100,
        "worst_case_pusd": 10,
        "max_output_tokens": None,
    }
    return Prepared(**(values | changes))


def an_open_response(number: int, stage: Stage | None = None, **changes: Any) -> OpenResponse:
    values: dict[str, Any] = {
        "request_id": number,
        "attempt_id": number,
        "key": f"row-{number}",
        "stage": stage or a_stage(),
        "attempts": 1,
        "response_id": f"resp_{number}",
        "status": "queued",
        "sent_at": NOW,
        "accepted_at": NOW,
        "model": "gpt-5-mini",
        "service_tier": None,
        "window": None,
        "worst_case_pusd": 10,
        "max_output_tokens": None,
    }
    return OpenResponse(**(values | changes))


class Rig:
    """One run on a store with a clock that stands still, and the events that it reported."""

    def __init__(self, store: Store, reader: Reader, record: Run, *stages: Stage) -> None:
        self.store, self.reader, self.record = store, reader, record
        self.clock = FakeClock(NOW)
        self.events: list[RunEvent] = []
        self.stages = {stage.name: stage for stage in stages or (a_stage(),)}
        self.status = RunStatus(unsealed_stages=set(self.stages))
        self.observation = Observation(Progress(started_at=NOW), self.events.append, self.clock)
        self.run = RunContext(
            record=record,
            stages=self.stages,
            endpoints=[an_endpoint(self.observation)],
            store=store,
            reader=reader,
            status=self.status,
            observation=self.observation,
            clock=self.clock,
            rng=random.Random(1),
        )

    def funds(self, *caps: Cap, **changes: Any) -> Funds:
        values: dict[str, Any] = {
            "prices": [PriceBook()],
            "budget": Budget(caps),
            "observation": self.observation,
            "caps": None,
            "is_at_work": lambda _: False,
        }
        return Funds(**(values | changes))

    def other_runs(self, route: Callable[[After], None] = lambda _: None, **funds: Any) -> OtherRuns:
        """What the run has to do with others; ``funds`` may say which of them are at work."""
        money = self.funds(**funds)
        settle = Settle(self.run, money)
        return OtherRuns(self.run, money, Recover(self.run, money, settle), route=route)


class Unconnected:
    """The clients of a provider that is never called."""

    def __init__(self) -> None:
        self.client = ResponsesClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1")))

    def held(self) -> ResponsesClient:
        return self.client

    def streams(self) -> StreamingClient:
        raise AssertionError("nothing is streamed here")

    def batches(self) -> BatchClient:
        raise AssertionError("nothing is sent in a batch here")


def an_endpoint(observation: Observation | None = None, **changes: Any) -> RunEndpoint:
    """An endpoint that is never called."""
    seen = observation or Observation(Progress(started_at=NOW), lambda _: None, FakeClock(NOW))
    values: dict[str, Any] = {
        "executors": Executors(Unconnected()),
        "allowances": allowances(),
        "outages": Outages(seen, random.Random(1)),
    }
    return RunEndpoint(**(values | changes))


def capacity_at(pools: Pools, free: Callable[[Lane], int] = lambda _: 100) -> Callable[[QueueName], EndpointCapacity]:
    """The capacity at the only endpoint, counted once for all queues."""
    places = FreePlaces(0, 0)
    return lambda name: EndpointCapacity(pools.pool(name.model), places, free=free(name.lane))


def allowances(*, per_minute: int | None = None, tokens: int | None = None, **changes: Any) -> Allowances:
    values: dict[str, Any] = {
        "pools": Pools(requests_per_minute=per_minute, tokens_per_minute=tokens, now=NOW),
        "polls": Limiter(requests_per_minute=6_000, tokens_per_minute=None, now=NOW),
        "places": OpenPlaces(1_000),
    }
    return Allowances(**(values | changes))
