"""How much room the endpoints have for the requests of one queue, and which of them takes the next request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Halted, Prepared
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import Closed, RunEndpoint
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.engine.tasks.send_queue import QueueName
from orchestrator.executors.base import Capabilities
from orchestrator.policy.endpoint_choice import choose
from orchestrator.policy.errors.first_tries import MOST_UNSEEN
from orchestrator.policy.rate_limits.limits import Limiter

__all__ = ["OneRoom", "Room", "Rooms", "Seats", "SharedRoom", "Shares", "free_places"]

# How long endpoints are waited for that cannot take more at this moment, in each such time; and when to ask again.
_WAITS_S, _PER_S = 2.0, 30.0
_SOON_S = 0.05


@dataclass(slots=True)
class Seats:
    """How many more requests an endpoint takes in one admission, over all queues.

    ``short`` are calls that return at once, ``held`` those that last until the response has ended. ``open`` is how
    many more responses it may have open, however many calls are on the wire.
    """

    short: int
    held: int
    taken: int = 0
    open: int = field(default=0, compare=False)


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

    __slots__ = ("_free", "_most", "_pool", "_seats")

    def __init__(self, pool: Limiter, seats: Seats, *, free: int, most: int = 0) -> None:
        self._pool = pool
        self._seats = seats
        self._free = free
        self._most = most

    def never_fits(self, tokens: int) -> bool:
        return self._pool.never_fits(tokens)

    def is_full(self) -> bool:
        return self._seats.taken >= self._free

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        if not self._pool.take(now, prepared.tokens):
            return None
        self._seats.taken += 1
        return prepared

    def ready_at(self, now: float, tokens: int) -> float:
        return self._pool.ready_at(now, tokens)

    @property
    def is_open(self) -> bool:
        """Whether more responses may be open there."""
        return self._seats.taken < self._most

    def could_take(self, now: float, tokens: int) -> bool:
        """Whether it can take the request now or in a moment: neither out of order nor at a known limit."""
        return self.is_open and not self._pool.at_limit(now, tokens)


class SharedRoom:
    """The room at several endpoints, by place.

    An endpoint whose limits are known and used up, or that is out of order, leaves its share to the others. One that
    only cannot take more at this moment is waited for a little: else all would get the same, whatever their weights.
    """

    def __init__(self, rooms: Mapping[int, OneRoom], shares: Shares) -> None:
        self._rooms = rooms
        self._shares = shares

    def never_fits(self, tokens: int) -> bool:
        return bool(self._rooms) and all(room.never_fits(tokens) for room in self._rooms.values())

    def is_full(self) -> bool:
        return not any(room.is_open for room in self._rooms.values())

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        able = [place for place, room in self._rooms.items() if room.could_take(now, prepared.tokens)]
        while able:
            place, earned = choose(self._shares.earned, self._shares.weights, able)
            room = self._rooms[place]
            if not room.is_full() and room.take(now, prepared) is not None:
                self._shares.took(place, earned)
                return replace(prepared, endpoint=place)
            if self._shares.waits_for(place, now):
                return None
            able.remove(place)
        return None

    def ready_at(self, now: float, tokens: int) -> float:
        open_ = [room for room in self._rooms.values() if room.is_open]
        return min(now + _SOON_S if room.is_full() else room.ready_at(now, tokens) for room in open_)


@dataclass(slots=True)
class _Waits:
    """How long an endpoint was waited for since a time, and since when it is waited for now."""

    began: float
    total_s: float = 0.0
    since: float | None = None


class Shares:
    """What each endpoint has earned of its share, and how long those that were chosen were waited for."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = weights
        self.earned = [0.0] * len(weights)
        self._waits = [_Waits(0.0) for _ in weights]

    def took(self, place: int, earned: list[float]) -> None:
        """The endpoint has taken the request for which it was chosen."""
        self.earned = earned
        self._waits[place].since = None

    def waits_for(self, place: int, now: float) -> bool:
        """Whether an endpoint that cannot take its request at this moment keeps its share: not if it is slow."""
        waits = self._waits[place]
        if now - waits.began >= _PER_S:
            waits = self._waits[place] = _Waits(now)
        elif waits.since is not None:
            waits.total_s += now - waits.since
        waits.since = now
        return waits.total_s < _WAITS_S


class Rooms:
    """The room at all endpoints of a run, counted for each admission."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._endpoints = run.endpoints
        self._shares = Shares([endpoint.weight for endpoint in run.endpoints])
        self._seats: list[Seats] = []
        self._now = 0.0

    def count(self, now: float, stages: Stages) -> None:
        """Count the free places of each endpoint."""
        run = self._run
        self._now = now
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
        return SharedRoom({place: self._at(place, name) for place in self._serving(name.model)}, self._shares)

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
            for at in (
                endpoint.outages.next_probe_at,
                endpoint.allowances.places.closed_until,
                None if endpoint.closed is None else endpoint.closed.until,
            )
            # A probe that is due already waits for a free place, which wakes the sender by itself.
            if at is not None and at > now
        ]
        return min(times, default=None)

    def _at(self, place: int, name: QueueName) -> OneRoom:
        seats, capabilities = self._seats[place], self.capabilities(name.lane)
        free = seats.held if capabilities.held else seats.short
        if capabilities.requests_per_call > 1:
            free = 0  # another task sends these, many in one call
        # The places of calls that are held are what an endpoint can do, not what this moment allows.
        most = free if capabilities.held else max(free, seats.open)
        return OneRoom(self._endpoints[place].allowances.pools.pool(name.model), seats, free=free, most=most)


def free_places(
    now: float, status: RunStatus, stages: Stages, place: int, endpoint: RunEndpoint, in_flight: int
) -> Seats:
    """How many more creates may be on the wire to an endpoint that has so many requests in flight now."""
    if endpoint.closed is not None and (now < endpoint.closed.until or endpoint.sending):
        return Seats(0, 0)
    allowances = endpoint.allowances
    at_once, held_at_once = allowances.creates_at_once, allowances.held_at_once
    if endpoint.resumed_polls.holds_sending and in_flight:
        return Seats(0, 0)
    most_open = allowances.places.count(now)
    open_ = most_open - in_flight
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
    if endpoint.closed is not None:
        free = min(free, 1)
    open_ = min(open_, by_creates, by_responses) if endpoint.closed is None else free
    held = endpoint.holding
    short, held = min(free, at_once - endpoint.sending + held), min(free, held_at_once - held)
    return Seats(max(0, short), max(0, held), open=max(0, open_))
