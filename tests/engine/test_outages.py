"""An outage is reported once when it begins and once when it ends, whichever breakers it opened."""

from __future__ import annotations

import random

from orchestrator.core.events import OutageBegan, OutageEnded, Progress, RunEvent
from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.engine.observation import Observation
from orchestrator.engine.outages import Outages
from orchestrator.policy.rate_limits.circuit_breaker import CircuitBreaker
from orchestrator.testing import FakeClock

from .builders import NOW


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.events: list[RunEvent] = []
        progress = Progress(started_at=NOW)
        self.outages = Outages(Observation(progress, self.events.append, self.clock), random.Random(1))

    def open(self, breaker: CircuitBreaker) -> None:
        for _ in range(20):
            self.outages.record_failure(breaker, self.clock.now(), "server_error", again=False)
        self.clock.advance(10)


def test_one_outage_of_two_breakers_is_reported_once() -> None:
    bench = Bench()
    outages = bench.outages
    bench.open(outages.creates)
    bench.open(outages.polls)
    assert bench.events == [OutageBegan(reason="server_error")]
    outages.record_success(outages.creates, bench.clock.now())
    assert len(bench.events) == 1
    outages.record_success(outages.polls, bench.clock.now())
    assert bench.events[1:] == [OutageEnded(lasted_s=20.0)]
    outages.record_success(outages.polls, bench.clock.now())
    assert len(bench.events) == 2


def test_the_next_probe_waits_for_both_breakers_that_creates_meet() -> None:
    bench = Bench()
    outages = bench.outages
    assert outages.next_probe_at is None
    bench.open(outages.polls)
    assert outages.next_probe_at is None
    bench.open(outages.creates)
    bench.open(outages.responses)
    assert outages.next_probe_at == max(outages.creates.next_probe_at, outages.responses.next_probe_at)


def test_only_a_provider_that_never_answered_is_unreachable() -> None:
    bench = Bench()
    outages, nothing_there = bench.outages, NeverSent(reason="connection refused")
    assert outages.unreachable(nothing_there) is None
    bench.clock.advance(5)
    halted = outages.unreachable(nothing_there)
    assert halted is not None
    assert (halted.code, halted.collect) == ("unreachable", False)
    assert "provider.base_url" in halted.message
    assert outages.unreachable(ReplyLost(reason="timed out")) is None
    outages.reached = True
    assert outages.unreachable(nothing_there) is None
