"""How much room the endpoints have for the requests of one queue, and which of them takes the next request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import RunEndpoint
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.executors.base import Capabilities
from orchestrator.policy.endpoint_choice import choose
from orchestrator.policy.errors.first_tries import MOST_UNSEEN
from orchestrator.policy.rate_limits.limits import Limiter

__all__ = ["OneRoom", "Room", "Rooms", "Seats", "SharedRoom", "free_places"]


@dataclass(slots=True)
class Seats:
    """How many more requests an endpoint takes in one admission, over all queues.

    ``short`` are calls that return at once, ``held`` those that last until the response has ended.
    """

    short: int
    held: int
    taken: int = 0


class Room(Protocol):
    """The room for the requests of one queue."""

    def never_fits(self, tokens: int) -> bool:
        """Whether a request needs more than the limit of a whole minute everywhere."""
        ...

    def is_full(self) -> bool:
        """Whether no endpoint has a free place."""
        ...

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        """Take what the request needs from an endpoint's limits; the request with its endpoint, None if none can."""
        ...

    def ready_at(self, now: float, tokens: int) -> float:
        """When to ask again."""
        ...


class OneRoom:
    """The room at one endpoint: the only one, or the one that the requests must go to."""

    __slots__ = ("_pool", "_seats", "free")

    def __init__(self, pool: Limiter, seats: Seats, free: int) -> None:
        self._pool = pool
        self._seats = seats
        self.free = free

    def never_fits(self, tokens: int) -> bool:
        return self._pool.never_fits(tokens)

    def is_full(self) -> bool:
        return self._seats.taken >= self.free

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        if not self._pool.take(now, prepared.tokens):
            return None
        self._seats.taken += 1
        return prepared

    def ready_at(self, now: float, tokens: int) -> float:
        return self._pool.ready_at(now, tokens)


class SharedRoom:
    """The room at several endpoints, by place; ``pick`` chooses among those that can take a request now."""

    def __init__(self, rooms: Sequence[tuple[int, OneRoom]], pick: Callable[[Sequence[int]], int]) -> None:
        self._rooms = dict(rooms)
        self._pick = pick

    def never_fits(self, tokens: int) -> bool:
        return bool(self._rooms) and all(room.never_fits(tokens) for room in self._rooms.values())

    def is_full(self) -> bool:
        return all(room.is_full() for room in self._rooms.values())

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        tokens = prepared.tokens
        can = [place for place, room in self._free() if room.ready_at(now, tokens) <= now]
        if not can:
            return None
        place = self._pick(can)
        return self._rooms[place].take(now, replace(prepared, endpoint=place))

    def ready_at(self, now: float, tokens: int) -> float:
        return min(room.ready_at(now, tokens) for _, room in self._free())

    def _free(self) -> list[tuple[int, OneRoom]]:
        return [(place, room) for place, room in self._rooms.items() if not room.is_full()]


class Rooms:
    """The room at all endpoints of a run, counted for each admission."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._endpoints = run.endpoints
        self._weights = [endpoint.weight for endpoint in run.endpoints]
        self._earned = [0.0] * len(run.endpoints)
        self._seats: list[Seats] = []

    def count(self, now: float, stages: Stages) -> None:
        """Count the free places of each endpoint."""
        run = self._run
        self._seats = [
            free_places(now, run.status, stages, place, endpoint, run.in_flight_at(place))
            for place, endpoint in enumerate(self._endpoints)
        ]

    def of(self, name: QueueName) -> Room:
        """The room for the requests of a queue."""
        if len(self._endpoints) == 1:
            return self._at(0, name)
        if name.pin is not None:
            return self._at(name.pin, name)
        shared = [place for place, weight in enumerate(self._weights) if weight]
        return SharedRoom([(place, self._at(place, name)) for place in shared], self._pick)

    def capabilities(self, lane: Lane) -> Capabilities:
        """What a lane can do, which is the same at every endpoint."""
        return self._endpoints[0].executors.of(lane).capabilities

    def note_probes(self, now: float) -> None:
        """Requests were admitted: at an endpoint with an outage, one of them is its probe."""
        for endpoint, seats in zip(self._endpoints, self._seats, strict=True):
            if seats.taken:
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
            for at in (endpoint.outages.next_probe_at, endpoint.allowances.places.closed_until)
            # A probe that is due already waits for a free place, which wakes the sender by itself.
            if at is not None and at > now
        ]
        return min(times, default=None)

    def _at(self, place: int, name: QueueName) -> OneRoom:
        seats, capabilities = self._seats[place], self.capabilities(name.lane)
        free = seats.held if capabilities.held else seats.short
        if capabilities.requests_per_call > 1:
            free = 0  # another task sends these, many in one call
        return OneRoom(self._endpoints[place].allowances.pools.pool(name.model), seats, free)

    def _pick(self, candidates: Sequence[int]) -> int:
        place, self._earned = choose(self._earned, self._weights, candidates)
        return place


def free_places(
    now: float, status: RunStatus, stages: Stages, place: int, endpoint: RunEndpoint, in_flight: int
) -> Seats:
    """How many more creates may be on the wire to an endpoint that has so many requests in flight now."""
    allowances = endpoint.allowances
    at_once, held_at_once = allowances.creates_at_once, allowances.held_at_once
    if endpoint.resumed_polls.holds_sending and in_flight:
        return Seats(0, 0)
    most_open = allowances.places.count(now)
    for stage in stages.values():
        if not stage.cache_is_warm:
            # One request alone: those that begin like it then find their beginning in the provider's cache.
            return Seats(0, 0) if status.in_flight else Seats(1, 1)
        if not stage.first_creates[place].has_accepted:
            at_once = allowances.first_creates_at_once
            held_at_once = min(held_at_once, at_once)
        if stage.first_polls[place].finds_nothing and in_flight:
            return Seats(0, 0)
        if stage.first_polls[place].sends_few:
            most_open = min(most_open, MOST_UNSEEN)
    by_creates = endpoint.outages.creates.places(now, endpoint.sending)
    by_responses = endpoint.outages.responses.places(now, in_flight)
    free = max(0, min(most_open - in_flight, by_creates, by_responses))
    held = endpoint.holding
    return Seats(max(0, min(free, at_once - endpoint.sending + held)), max(0, min(free, held_at_once - held)))
