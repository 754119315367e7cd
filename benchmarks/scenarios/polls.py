"""Polls: how many a response takes, how late they see its completion, and how much that delays the whole run."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import measure
from benchmarks.product import run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["oracle_makespan_s", "polls"]

_MEDIAN_S = 8.0
_SIGMA = 0.7
# Polls per response, mean lag in medians, makespan divided by the oracle's: for the first run ever, and a later one.
_BOUNDS = {"cold": (3.8, 1.8 / _MEDIAN_S, 1.15), "warm": (3.4, 1.6 / _MEDIAN_S, 1.10)}


def polls(extent: Extent) -> Iterator[Figure]:
    """Lognormal latencies, 1,800 rows, 300 in flight: a first run, and one of the same job after it."""
    # Schedules are nearly the same at every scale, so half of the latency shows most of it; at a quarter the
    # provider's whole seconds are so coarse that they cost 5 % more polls, for 5 % less lag.
    latency = Latency(_MEDIAN_S if extent.full else _MEDIAN_S / 2, _SIGMA)
    workload = Workload(rows=1800, in_flight=300)
    with scratch() as folder:
        for seed, (name, (most_polls, most_lag, most_makespan)) in enumerate(_BOUNDS.items(), start=1):
            with responder(latency, seed=seed) as server:
                workload.write(folder, server.base_url)
                measure(run_command(folder, name))
                seen = server.seen()
            lag_s = seen.lag_mean_s or 0.0
            oracle_s = oracle_makespan_s(islice(latency.draws(seed), workload.rows), workload.in_flight)
            yield figure(f"{name}: polls per response", seen.polls / workload.rows, "", AtMost(most_polls))
            yield figure(f"{name}: mean lag", lag_s, "s", AtMost(most_lag * latency.median_s))
            yield figure(f"{name}: makespan / oracle", seen.makespan_s / oracle_s, "×", AtMost(most_makespan))


def oracle_makespan_s(latencies: Iterable[float], in_flight: int) -> float:
    """How long all take if each completion is seen at once and the next request is sent in its place."""
    remaining = iter(latencies)
    ends = sorted(islice(remaining, in_flight))
    latest = ends[-1]
    for latency in remaining:
        end = ends[0] + latency
        heapq.heapreplace(ends, end)
        latest = max(latest, end)
    return latest
