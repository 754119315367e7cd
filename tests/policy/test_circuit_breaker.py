"""The circuit breaker opens if every call fails, never on ordinary failures, and closes on the first success."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.rate_limits.circuit_breaker import CircuitBreaker


def opened(now: float = 100.0) -> CircuitBreaker:
    circuit = CircuitBreaker(Random(1))
    for _ in range(20):
        circuit.failed(now, now - 0.1, "server_error")
    assert circuit.is_open
    return circuit


def test_a_streak_of_failures_opens_it() -> None:
    circuit = opened()
    assert circuit.reason == "server_error"
    assert circuit.places(100.0, 0) == 0


def test_failures_among_successes_do_not_open_it() -> None:
    circuit = CircuitBreaker(Random(1))
    for second in range(1000):
        for _ in range(9):
            circuit.failed(second, second - 0.5, "server_error")
        circuit.succeeded(second)
    assert not circuit.is_open


def test_a_few_lasting_failures_open_it_too() -> None:
    circuit = CircuitBreaker(Random(1))
    for second in (0.0, 2.0, 4.0):
        circuit.failed(second + 0.5, second, "connection_failed")
        assert not circuit.is_open
    circuit.failed(6.5, 6.0, "connection_failed")
    assert circuit.is_open


def test_one_probe_at_a_time_at_growing_intervals() -> None:
    circuit, now = opened(), 100.0
    waits = []
    for _ in range(8):
        waits.append(circuit.next_probe_at - now)
        now = circuit.next_probe_at
        assert circuit.places(now, 0) == 1
        circuit.probing(now)
        assert circuit.places(now, 1) == 0
        circuit.failed(now + 0.1, now, "server_error")
    assert waits[0] <= 1.2
    assert 20 <= waits[-1] <= 36.1
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[:5]))


def test_no_second_probe_joins_one_that_hangs_and_its_failure_counts() -> None:
    circuit = opened()
    probe_at = circuit.next_probe_at
    circuit.probing(probe_at)
    assert all(circuit.places(probe_at + waited, 1) == 0 for waited in range(20))
    circuit.failed(probe_at + 20, probe_at, "timeout")
    assert 1.6 <= circuit.next_probe_at - (probe_at + 20) <= 2.4


def test_a_request_that_fails_repeatedly_is_no_outage() -> None:
    circuit = CircuitBreaker(Random(1))
    for second in range(1000):
        circuit.failed(second + 0.5, second, "server_error", again=second > 0)
    assert not circuit.is_open


def test_a_few_requests_that_fail_repeatedly_are_an_outage_if_no_call_succeeds() -> None:
    circuit = CircuitBreaker(Random(1))
    for _ in range(4):
        circuit.failed(0.5, 0.0, "server_error")
    assert not circuit.is_open
    circuit.failed(6.0, 5.5, "server_error", again=True)
    assert circuit.is_open


def test_an_outage_excuses_failures_for_a_limited_time() -> None:
    circuit = opened(now=100.0)
    assert circuit.excuses(100.0 + 3600)
    assert not circuit.excuses(100.0 + 3 * 3600)
    assert not CircuitBreaker(Random(1)).excuses(100.0)


def test_late_failures_of_the_same_streak_do_not_postpone_the_probe() -> None:
    circuit = opened()
    probe_at = circuit.next_probe_at
    for _ in range(50):
        circuit.failed(100.5, 99.0, "server_error")
    assert circuit.next_probe_at == probe_at


def test_a_late_success_of_an_earlier_call_does_not_close_it() -> None:
    circuit = opened()
    circuit.succeeded(99.0)
    assert circuit.is_open


def test_the_first_success_closes_it_and_calls_double() -> None:
    circuit = opened()
    now = circuit.next_probe_at
    circuit.probing(now)
    circuit.succeeded(now)
    assert not circuit.is_open
    assert circuit.places(now, 0) == 2
    circuit.succeeded(now)
    assert circuit.places(now, 1) == 3
    for _ in range(8):
        circuit.succeeded(now)
    assert circuit.places(now, 200) > 50


@given(st.lists(st.tuples(st.sampled_from(["fail", "succeed", "ask"]), st.floats(0, 30)), max_size=200))
def test_it_never_blocks_forever(steps: list[tuple[str, float]]) -> None:
    circuit, now = CircuitBreaker(Random(2)), 0.0
    for what, seconds in steps:
        now += seconds
        match what:
            case "fail":
                circuit.failed(now, now - 1, "x")
            case "succeed":
                circuit.succeeded(now - 1)
            case _:
                circuit.probing(now)
    # Whatever went before: within a minute and a bit there is leave to ask again.
    assert any(circuit.places(now + later, 0) > 0 for later in range(40))
