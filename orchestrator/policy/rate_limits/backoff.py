"""How long to wait before a retry: exponential back-off with full jitter, and never less than ``Retry-After``."""

from __future__ import annotations

from random import Random

__all__ = ["full_jitter", "retry_wait"]

# Added to a Retry-After, so that a thousand requests with the same one do not return in the same second.
_SPREAD = 0.25
_SPREAD_CAP_S = 5.0
# As long as the interval between probes of an outage: a longer outage is the circuit breaker's concern.
_LONGEST_S = 30.0


def full_jitter(attempt: int, rng: Random, *, base_s: float = 0.5, cap_s: float = _LONGEST_S) -> float:
    """Returns seconds to wait after the ``attempt``-th failure (from 1): from 0 to ``base_s``, doubled each time.

    The range starts at 0 because requests that failed together must not return together.
    """
    doublings = min(max(attempt, 1) - 1, 63)
    return rng.uniform(0.0, min(cap_s, base_s * 2**doublings))


def retry_wait(
    attempt: int, rng: Random, *, at_least_s: float | None = None, base_s: float = 1.0, cap_s: float = _LONGEST_S
) -> float:
    """Returns seconds to wait; ``at_least_s`` (a ``Retry-After``) is a minimum, with a little jitter added."""
    wait_s = full_jitter(attempt, rng, base_s=base_s, cap_s=cap_s)
    if at_least_s is None:
        return wait_s
    return max(wait_s, at_least_s + rng.uniform(0.0, min(at_least_s * _SPREAD, _SPREAD_CAP_S)))
