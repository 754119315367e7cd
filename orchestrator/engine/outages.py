"""Outages of the provider: a circuit breaker for each part that can fail by itself."""

from __future__ import annotations

import random

from orchestrator.core.events import OutageBegan, OutageEnded
from orchestrator.core.problems import NeverSent, Problem
from orchestrator.engine.items import Halted
from orchestrator.engine.observation import Observation
from orchestrator.policy.rate_limits.circuit_breaker import CircuitBreaker

__all__ = ["Outages"]

# How long an unreachable provider is tried at the start, before anything has ever been answered.
_FIRST_CONTACT_S = 5.0


class Outages:
    """Three circuit breakers: accepting requests, working on them and reporting on them can each fail alone.

    ``reached`` says whether the provider has answered anything in this process, even with an error.
    """

    def __init__(self, observation: Observation, rng: random.Random) -> None:
        self._observation = observation
        self._clock = observation.clock
        self.creates = CircuitBreaker(rng)
        self.responses = CircuitBreaker(rng)
        self.polls = CircuitBreaker(rng)
        self.reached = False
        # When the current outage was reported; None if there is none.
        self._reported_at: float | None = None

    @property
    def next_probe_at(self) -> float | None:
        """When the next request may be sent during an outage; None if there is no outage."""
        breakers = (self.creates, self.responses)
        return max((breaker.next_probe_at for breaker in breakers if breaker.is_open), default=None)

    def unreachable(self, problem: Problem) -> Halted | None:
        """The halt for a provider that has never answered: a wrong address is reported, a later outage waited out."""
        if self.reached or not isinstance(problem, NeverSent):
            return None
        if self._clock.now() - self._observation.progress.started_at < _FIRST_CONTACT_S:
            return None
        advice = "check provider.base_url and the network, then run again"
        return Halted("unreachable", f"the provider cannot be reached: {problem.reason}; {advice}", collect=False)

    def record_failure(self, breaker: CircuitBreaker, sent_at: float, code: str, *, again: bool) -> None:
        """Record a failure that is the provider's fault; report an outage when the first breaker opens."""
        now = self._clock.now()
        breaker.failed(now, sent_at, code, again=again)
        if breaker.is_open and self._reported_at is None:
            self._reported_at = now
            self._observation.observe(OutageBegan(reason=code))

    def record_success(self, breaker: CircuitBreaker, sent_at: float) -> None:
        """Record an answer; report the end of an outage when it closes the last open breaker."""
        breaker.succeeded(sent_at)
        if self._reported_at is None:
            return
        if not (self.creates.is_open or self.responses.is_open or self.polls.is_open):
            self._observation.observe(OutageEnded(lasted_s=self._clock.now() - self._reported_at))
            self._reported_at = None
