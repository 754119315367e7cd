"""The product compared with the floor: the same calls to the same server, alternating.

The speed of a shared machine can change by half from one minute to the next. So each run of the product is compared
with the floors just before and just after it, and a start-up measured in the same round is subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.figures import AtLeast, AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import measure, python
from benchmarks.product import run_command, scratch, start_up
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["documents", "held_calls", "hot_path"]

_LATENCY = Latency(0.05)
_HELD_LATENCY = Latency(0.2)


def hot_path(extent: Extent) -> Iterator[Figure]:
    """CPU per row and rows/s, 200 in flight at 50 ms."""
    bounds = _Bounds(cpu=1.5, rows_per_s=800.0)
    return _beside_floor(extent, Workload(rows=6000), bounds, reply_bytes=1500)


def documents(extent: Extent) -> Iterator[Figure]:
    """The same with prompts of 8 kB and responses of 10 kB."""
    return _beside_floor(extent, Workload(rows=3000, prompt_bytes=8000), _Bounds(cpu=2.0), reply_bytes=10_000)


def held_calls(extent: Extent) -> Iterator[Figure]:
    """The lane sync: CPU per row, 200 calls held at 200 ms, compared with a bare loop of the same calls."""
    # The floor makes one call a row and keeps nothing, so storing weighs more than in the other scenarios.
    return _beside_floor(extent, Workload(rows=6000, held=True), _Bounds(cpu=2.5), reply_bytes=1500)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    """The most CPU per row, in floors; the least rows/s, or 65 % of the floor's if that is less."""

    cpu: float
    rows_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    cpu_ms: float
    rows_per_s: float
    peak_mb: float
    busy: float


def _beside_floor(extent: Extent, workload: Workload, bounds: _Bounds, *, reply_bytes: int) -> Iterator[Figure]:
    start_up()  # fills the caches of files and compiled modules
    floors, products = [_floor(workload, reply_bytes)], list[_Taken]()
    for _ in range(extent.rounds):
        products.append(_product(workload, reply_bytes))
        floors.append(_floor(workload, reply_bytes))
    around = [fmean(floor.cpu_ms for floor in pair) for pair in pairwise(floors)]
    rate = figure("floor: rows/s", [taken.rows_per_s for taken in floors], "/s")
    yield figure("floor: CPU per row", [taken.cpu_ms for taken in floors], "ms")
    yield figure("product: CPU per row", [taken.cpu_ms for taken in products], "ms")
    yield figure(
        "CPU per row, product / floor",
        [product.cpu_ms / floor_ms for product, floor_ms in zip(products, around, strict=True)],
        "×",
        AtMost(bounds.cpu),
    )
    yield rate
    least = AtLeast(min(bounds.rows_per_s, 0.65 * rate.value)) if bounds.rows_per_s else None
    yield figure("product: rows/s", [taken.rows_per_s for taken in products], "/s", least)
    yield figure("product: peak memory", [taken.peak_mb for taken in products], "MB", AtMost(200))
    yield figure("responder: share of its core", max(taken.busy for taken in (*floors, *products)), "×", AtMost(0.7))


def _floor(workload: Workload, reply_bytes: int) -> _Taken:
    latency = _HELD_LATENCY if workload.held else _LATENCY
    with responder(latency, reply_bytes=reply_bytes, hold=workload.held) as server:
        sizes = ("--rows", workload.rows, "--in-flight", workload.in_flight, "--prompt-bytes", workload.prompt_bytes)
        held = ["--held"] if workload.held else []
        cost = measure(
            python("-m", "benchmarks.floor", server.base_url, "--latency", latency.median_s, *sizes, *held)
        )
        seen = server.seen()
    cpu_s: float = json.loads(cost.output)["cpu_s"]
    return _Taken(cpu_s / workload.rows * 1e3, seen.rows_per_s, cost.peak_mb, seen.busy)


def _product(workload: Workload, reply_bytes: int) -> _Taken:
    start = start_up()
    latency = _HELD_LATENCY if workload.held else _LATENCY
    with scratch() as folder, responder(latency, reply_bytes=reply_bytes, hold=workload.held) as server:
        workload.write(folder, server.base_url)
        cost = measure(run_command(folder))
        seen = server.seen()
    cpu_s = (cost.cpu_s - start.cpu_s) / (workload.rows - 1)
    return _Taken(cpu_s * 1e3, seen.rows_per_s, cost.peak_mb, seen.busy)
