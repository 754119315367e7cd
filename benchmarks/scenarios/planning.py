"""Planning: how fast an input file becomes pending requests, while almost nothing is sent."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

from benchmarks.figures import AtLeast, AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import SERVER_CORE, measure, python, start
from benchmarks.product import run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["planning"]

_NEVER = Latency(3600.0)


def planning(extent: Extent) -> Iterator[Figure]:
    """Rows planned per second; one request is sent and never answered."""
    rows = 1_000_000 if extent.full else 200_000
    with scratch() as folder, responder(_NEVER) as server:
        Workload(rows=rows, in_flight=1).write(folder, server.base_url)
        with start(run_command(folder)) as child:
            watched = measure(
                python("-m", "benchmarks.plan_watch", folder / "runs.db", "measured", rows), core=SERVER_CORE
            )
            child.signal(signal.SIGTERM)
            ended = child.wait(codes=(128 + signal.SIGTERM,))
        first, last = json.loads(watched.output)
        yield figure(
            "rows planned", (last["rows"] - first["rows"]) / (last["at"] - first["at"]), "/s", AtLeast(40_000)
        )
        yield figure(
            "start to first request", (server.seen().first_call_at or 0) - ended.started_at, "s", AtMost(2.0)
        )
        yield figure("peak memory", ended.peak_mb, "MB", AtMost(200))
