"""How long to wait before the next try: exponential with full jitter, and never less than was asked for."""

from __future__ import annotations

from random import Random

__all__ = ["full_jitter", "retry_wait"]

# Over a Retry-After, so that a thousand requests told the same second do not come back in the same second.
_SPREAD = 0.25
_SPREAD_CAP_S = 5.0
# As far apart as the probes of an outage: what lasts longer is not for a single request to sit out.
_LONGEST_S = 30.0


def full_jitter(attempt: int, rng: Random, *, base_s: float = 0.5, cap_s: float = _LONGEST_S) -> float:
    """Seconds to wait after the ``attempt``-th failure (from 1): anything from 0 to ``base_s`` doubled each time.

    The whole range and not its upper part: what failed together must not come back together.
    """
    doublings = min(max(attempt, 1) - 1, 63)
    return rng.uniform(0.0, min(cap_s, base_s * 2**doublings))


def retry_wait(
    attempt: int, rng: Random, *, at_least_s: float | None = None, base_s: float = 1.0, cap_s: float = _LONGEST_S
) -> float:
    """Seconds to wait, where ``at_least_s`` (a ``Retry-After``) is a minimum with a little jitter above it."""
    wait_s = full_jitter(attempt, rng, base_s=base_s, cap_s=cap_s)
    if at_least_s is None:
        return wait_s
    return max(wait_s, at_least_s + rng.uniform(0.0, min(at_least_s * _SPREAD, _SPREAD_CAP_S)))
