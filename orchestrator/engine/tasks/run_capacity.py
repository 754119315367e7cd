"""How much the endpoints of a run can take now, counted for each admission."""

from __future__ import annotations

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Halted
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import Closed, RunEndpoint
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.engine.tasks.capacity import Capacity, EndpointCapacity, FreePlaces, SharedCapacity, Shares
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.executors.base import Capabilities
from orchestrator.policy.errors.first_tries import MOST_UNSEEN

__all__ = ["RunCapacity", "free_places"]


class RunCapacity:
    """The capacity at all endpoints of a run, counted for each admission."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._endpoints = run.endpoints
        self._shares = Shares([endpoint.weight for endpoint in run.endpoints])
        self._places: list[FreePlaces] = []
        self._now = 0.0

    def count(self, now: float, stages: Stages) -> None:
        """Count the free places of each endpoint."""
        run = self._run
        self._now = now
        self._places = [
            free_places(now, run.status, stages, place, endpoint, run.in_flight_at(place))
            for place, endpoint in enumerate(self._endpoints)
        ]

    def of(self, name: QueueName) -> Capacity:
        """The capacity for the requests of a queue."""
        if len(self._endpoints) == 1:
            return self._at(0, name)
        if name.pin is not None:
            return self._at(name.pin, name)
        return SharedCapacity({place: self._at(place, name) for place in self._serving(name.model)}, self._shares)

    def stuck(self, name: QueueName) -> Halted | None:
        """Why the requests of a queue must wait for an endpoint that refuses everything; None if they need not."""
        if name.pin is None:
            return None
        endpoint = self._endpoints[name.pin]
        if endpoint.closed is None:
            return None
        reason = endpoint.closed.reason
        message = f"what is left must go to endpoint {endpoint.name}: {reason.message}"
        return Halted(reason.code, message, collect=reason.collect)

    def _serving(self, model: str) -> list[int]:
        """The endpoints that get new requests to a model: where none has it, each says so itself."""
        shared = [place for place, weight in enumerate(self._shares.weights) if weight]
        have = [place for place in shared if model not in self._endpoints[place].closed_models]
        due = [place for place in shared if self._is_due(self._endpoints[place].closed_models.get(model))]
        return sorted({*have, *due}) if have else shared

    def _is_due(self, closed: Closed | None) -> bool:
        return closed is not None and closed.until <= self._now

    def capabilities(self, lane: Lane) -> Capabilities:
        """What a lane can do, which is the same at every endpoint."""
        return self._endpoints[0].executors.of(lane).capabilities

    def note_probes(self, now: float) -> None:
        """Requests were admitted: at an endpoint with an outage, one of them is its probe."""
        for endpoint, places in zip(self._endpoints, self._places, strict=True):
            if places.taken:
                endpoint.outages.creates.probing(now)
                endpoint.outages.responses.probing(now)

    @property
    def next_probe_at(self) -> float | None:
        """When a request may be sent again, if no endpoint serves any now."""
        probes = [endpoint.outages.next_probe_at for endpoint in self._endpoints]
        known = [at for at in probes if at is not None]
        return min(known) if len(known) == len(probes) else None

    def opens_at(self, now: float) -> float | None:
        """When an endpoint that takes nothing now may take something, if no event says so before."""
        times = [
            at
            for endpoint in self._endpoints
            for at in (
                endpoint.outages.next_probe_at,
                endpoint.allowances.places.closed_until,
                None if endpoint.closed is None else endpoint.closed.until,
            )
            # A probe that is due already waits for a free place, which wakes the sender by itself.
            if at is not None and at > now
        ]
        return min(times, default=None)

    def _at(self, place: int, name: QueueName) -> EndpointCapacity:
        places, capabilities = self._places[place], self.capabilities(name.lane)
        free = places.held if capabilities.held else places.short
        if capabilities.requests_per_call > 1:
            free = 0  # another task sends these, many in one call
        # The places of calls that are held are what an endpoint can do, not what this moment allows.
        most = free if capabilities.held else max(free, places.open)
        pool = self._endpoints[place].allowances.pools.pool(name.model)
        return EndpointCapacity(pool, places, free=free, most=most)


def free_places(
    now: float, status: RunStatus, stages: Stages, place: int, endpoint: RunEndpoint, in_flight: int
) -> FreePlaces:
    """How many more creates may be on the wire to an endpoint that has so many requests in flight now."""
    if endpoint.closed is not None and (now < endpoint.closed.until or endpoint.sending):
        return FreePlaces(0, 0)
    allowances = endpoint.allowances
    at_once, held_at_once = allowances.creates_at_once, allowances.held_at_once
    if endpoint.resumed_polls.holds_sending and in_flight:
        return FreePlaces(0, 0)
    most_open = allowances.places.count(now)
    open_ = most_open - in_flight
    for stage in stages.values():
        if not stage.cache_is_warm:
            # One request alone: those that begin like it then find their beginning in the provider's cache.
            return FreePlaces(0, 0) if status.in_flight else FreePlaces(1, 1)
        if not stage.first_creates[place].has_accepted:
            at_once = allowances.first_creates_at_once
            held_at_once = min(held_at_once, at_once)
        if stage.first_polls[place].finds_nothing and in_flight:
            return FreePlaces(0, 0)
        if stage.first_polls[place].sends_few:
            most_open = min(most_open, MOST_UNSEEN)
    by_creates = endpoint.outages.creates.places(now, endpoint.sending)
    by_responses = endpoint.outages.responses.places(now, in_flight)
    free = max(0, min(most_open - in_flight, by_creates, by_responses))
    if endpoint.closed is not None:
        free = min(free, 1)
    open_ = min(open_, by_creates, by_responses) if endpoint.closed is None else free
    held = endpoint.holding
    short, held = min(free, at_once - endpoint.sending + held), min(free, held_at_once - held)
    return FreePlaces(max(0, short), max(0, held), open=max(0, open_))
