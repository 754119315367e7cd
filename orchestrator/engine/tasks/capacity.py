"""How much endpoints can take of the requests of one queue, and which of them takes the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.engine.items import Prepared
from orchestrator.policy.endpoint_choice import choose
from orchestrator.policy.rate_limits.limits import Limiter

__all__ = ["Capacity", "EndpointCapacity", "FreePlaces", "SharedCapacity", "Shares"]

# How long endpoints are waited for that cannot take more at this moment, in each such time; and when to ask again.
_WAITS_S, _PER_S = 2.0, 30.0
_SOON_S = 0.05


@dataclass(slots=True)
class FreePlaces:
    """How many more requests an endpoint takes in one admission, over all queues.

    ``short`` are calls that return at once, ``held`` those that last until the response has ended. ``open`` is how
    many more responses it may have open, however many calls are on the wire.
    """

    short: int
    held: int
    taken: int = 0
    open: int = field(default=0, compare=False)


class Capacity(Protocol):
    """The capacity for the requests of one queue."""

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


class EndpointCapacity:
    """The capacity at one endpoint: the only one, or the one that the requests must go to."""

    __slots__ = ("_free", "_most", "_places", "_pool")

    def __init__(self, pool: Limiter, places: FreePlaces, *, free: int, most: int = 0) -> None:
        self._pool = pool
        self._places = places
        self._free = free
        self._most = most

    def never_fits(self, tokens: int) -> bool:
        return self._pool.never_fits(tokens)

    def is_full(self) -> bool:
        return self._places.taken >= self._free

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        if not self._pool.take(now, prepared.tokens):
            return None
        self._places.taken += 1
        return prepared

    def ready_at(self, now: float, tokens: int) -> float:
        return self._pool.ready_at(now, tokens)

    @property
    def is_open(self) -> bool:
        """Whether more responses may be open there."""
        return self._places.taken < self._most

    def could_take(self, now: float, tokens: int) -> bool:
        """Whether it can take the request now or in a moment: neither out of order nor at a known limit."""
        return self.is_open and not self._pool.at_limit(now, tokens)


class SharedCapacity:
    """The capacity at several endpoints, by place.

    An endpoint whose limits are known and used up, or that is out of order, leaves its share to the others. One that
    only cannot take more at this moment is waited for a little: else all would get the same, whatever their weights.
    """

    def __init__(self, capacities: Mapping[int, EndpointCapacity], shares: Shares) -> None:
        self._capacities = capacities
        self._shares = shares

    def never_fits(self, tokens: int) -> bool:
        return bool(self._capacities) and all(capacity.never_fits(tokens) for capacity in self._capacities.values())

    def is_full(self) -> bool:
        return not any(capacity.is_open for capacity in self._capacities.values())

    def take(self, now: float, prepared: Prepared) -> Prepared | None:
        able = [place for place, capacity in self._capacities.items() if capacity.could_take(now, prepared.tokens)]
        while able:
            place, earned = choose(self._shares.earned, self._shares.weights, able)
            capacity = self._capacities[place]
            if not capacity.is_full() and capacity.take(now, prepared) is not None:
                self._shares.took(place, earned)
                return replace(prepared, endpoint=place)
            if self._shares.waits_for(place, now):
                return None
            able.remove(place)
        return None

    def ready_at(self, now: float, tokens: int) -> float:
        open_ = [capacity for capacity in self._capacities.values() if capacity.is_open]
        return min(now + _SOON_S if capacity.is_full() else capacity.ready_at(now, tokens) for capacity in open_)


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
