"""Start-up: how long a user waits for a command that does almost nothing."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import measure, python
from benchmarks.product import command, run_command, scratch, start_up
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["startup"]


def startup(extent: Extent) -> Iterator[Figure]:
    """``--help``, ``status``, and a run of one row, on a warm disk."""
    with scratch() as folder, responder(Latency(0.05)) as server:
        Workload(rows=100).write(folder, server.base_url)
        measure(run_command(folder))
        # Alternating, so that a busy second of the machine affects both.
        commands = python("-m", "orchestrator", "--help"), command(folder, "status", "measured")
        taken = [[measure(each) for each in commands] for _ in range(2 * extent.rounds)]
    helps, statuses = zip(*taken, strict=True)
    yield figure("--help", [cost.wall_s for cost in helps], "s", AtMost(0.5))
    yield figure("--help: CPU", [cost.cpu_s for cost in helps], "s")
    yield figure("status", [cost.wall_s for cost in statuses], "s", AtMost(0.8))
    yield figure("status: CPU", [cost.cpu_s for cost in statuses], "s")
    starts = [start_up() for _ in range(extent.rounds)]
    yield figure("a run of one row", [cost.wall_s for cost in starts], "s")
    yield figure("a run of one row: CPU", [cost.cpu_s for cost in starts], "s")
