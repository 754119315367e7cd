"""How many calls may be made: by the provider's rate limits, and by the connections of this process."""

from __future__ import annotations

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.rate_limits.limits import Limiter, Pools
from orchestrator.policy.rate_limits.places import OpenPlaces

__all__ = ["Allowances"]


@fast_dataclass
class Allowances:
    """Rate limits of creates (a pool for each model) and of polls, and how many calls may be open at a time."""

    pools: Pools
    polls: Limiter
    places: OpenPlaces
    # Calls on the wire until their outcome is on disk: at half a second for a call, 15,000 creates a minute.
    # Both together are as many as an endpoint's connections.
    creates_at_once: int = 128
    polls_at_once: int = 128
    # Creates until the first one is accepted: if nothing can work, at most this many fail.
    first_creates_at_once: int = 64
    # Create calls that are held until the response has ended, on connections of their own.
    held_at_once: int = 64
