"""Many rows: memory that does not grow, a resume that does not scan, reading commands that do not wait."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import AtLeast, AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import Cost, measure, start
from benchmarks.product import command, database_bytes, run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import Responder, responder
from benchmarks.workload import Workload

__all__ = ["scale"]

_LATENCY = Latency(0.05)
_SIZES = (2_000, 10_000, 50_000)
_FULL_SIZES = (2_000, 10_000, 100_000, 1_000_000)
# The size that the largest one is compared with.
_COMPARED = 10_000
# Late enough to show whether the first process's memory grows, early enough to leave much to resume.
_KILLED_AT = 0.8
_REPEATS = 3


def scale(extent: Extent) -> Iterator[Figure]:
    """Peak memory by number of rows; kill and resume; status, costs, export and the database's size."""
    *smaller, largest = _FULL_SIZES if extent.full else _SIZES
    taken = {}
    for rows in smaller:
        taken[rows] = _run(rows)
        yield figure(f"peak memory, {rows:,} rows", taken[rows].run.peak_mb, "MB", AtMost(200))
    yield from _largest(largest, taken[_COMPARED])


@dataclass(frozen=True, slots=True)
class _Taken:
    run: Cost
    export: Cost


def _run(rows: int) -> _Taken:
    with scratch() as folder, responder(_LATENCY) as server:
        Workload(rows=rows).write(folder, server.base_url)
        return _Taken(measure(run_command(folder)), _export(folder))


def _largest(rows: int, compared: _Taken) -> Iterator[Figure]:
    with scratch() as folder, responder(_LATENCY) as server:
        input_bytes = Workload(rows=rows).write(folder, server.base_url)
        killed, first_call_s = _until_killed(folder, server, round(rows * _KILLED_AT))
        server.mark()
        resumed = measure(run_command(folder))
        peak_mb = max(killed.peak_mb, resumed.peak_mb)
        yield figure(f"peak memory, {rows:,} rows", peak_mb, "MB", AtMost(200))
        yield figure("the same / 10,000 rows", peak_mb / compared.run.peak_mb, "×", AtMost(1.3))
        yield figure("rows/s", rows / server.seen().makespan_s, "/s")
        yield figure("start to first request", first_call_s, "s", AtMost(2.0))
        yield figure(
            "resume after kill -9 to first request", _first_call_s(server, resumed.started_at), "s", AtMost(3.0)
        )
        stored = database_bytes(folder) / (input_bytes + 1200 * rows)
        yield figure("database / (input + 1.2 kB a row)", stored, "×", AtMost(1.0))
        yield from _reading(folder, rows, compared)


def _reading(folder: Path, rows: int, compared: _Taken) -> Iterator[Figure]:
    statuses, costs = (
        [measure(command(folder, name, "measured")) for _ in range(_REPEATS)] for name in ("status", "costs")
    )
    export, before, more = _export(folder), compared.export, rows - _COMPARED
    yield figure("status", [cost.wall_s for cost in statuses], "s", AtMost(0.5))
    yield figure("costs", [cost.wall_s for cost in costs], "s")
    # The time before these rows, above all start-up, is subtracted.
    yield figure("export, beyond 10,000 rows", more / (export.wall_s - before.wall_s), "rows/s", AtLeast(50_000))
    yield figure("export, beyond 10,000 rows: CPU", (export.cpu_s - before.cpu_s) / more * 1e6, "µs a row")
    yield figure("export: peak memory / 10,000 rows", export.peak_mb / before.peak_mb, "×", AtMost(1.3))


def _export(folder: Path) -> Cost:
    """The median of three: the figures are differences, which one busy second would reverse."""
    export = command(folder, "export", "measured", "-o", str(folder / "results.jsonl"))
    return sorted((measure(export) for _ in range(3)), key=lambda cost: cost.wall_s)[1]


def _until_killed(folder: Path, server: Responder, settled: int) -> tuple[Cost, float]:
    """Runs until about ``settled`` rows are settled, then kills -9; also returns when the first request came."""
    with start(run_command(folder)) as child:
        while server.seen().seen < settled and not child.ended():
            time.sleep(0.2)
        child.signal(signal.SIGKILL)
        return child.wait(codes=(-signal.SIGKILL,)), _first_call_s(server, child.started_at)


def _first_call_s(server: Responder, started_at: float) -> float:
    return (server.seen().first_call_at or float("inf")) - started_at
