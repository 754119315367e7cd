"""Nights: what a night costs on which no row changed, beside reading and checking the same input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import Cost, measure
from benchmarks.product import command, database_bytes, run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["nights"]


def nights(extent: Extent) -> Iterator[Figure]:
    """A first night that asks all rows, then nights on which nothing changed."""
    rows = 1_000_000 if extent.full else 20_000
    with scratch() as folder, responder(Latency(0.05)) as server:
        Workload(rows=rows, in_flight=400, increments=True).write(folder, server.base_url)
        measure(run_command(folder, "first"))
        before, created = database_bytes(folder), server.seen().creates
        again = [measure(run_command(folder, f"again-{turn}")) for turn in range(extent.rounds)]
        floor = [_floor(folder) for _ in range(extent.rounds)]
        yield figure("requests sent", float(server.seen().creates - created), "", AtMost(0))
        yield figure("a night", [each.wall_s for each in again], "s", AtMost(30) if extent.full else None)
        ratios = [night.cpu_s / read.cpu_s for night, read in zip(again, floor, strict=True)]
        yield figure("CPU of a night / of reading the input", ratios, "×")
        yield figure("peak memory", [each.peak_mb for each in again], "MB", AtMost(200))
        growth = 100 * (database_bytes(folder) - before) / before / extent.rounds
        yield figure("growth of the database", growth, "%", AtMost(1))


def _floor(folder: Path) -> Cost:
    """Reading and checking every row, which a dry run does; nothing is compared or stored."""
    files = (str(folder / "job.yaml"), "--config", str(folder / "config.yaml"), "--set", "increments=null")
    return measure(command(folder, "run", *files, "--dry-run", "--json"))
