"""A crowd of open responses: what they cost while nothing happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import Broken, Child, start
from benchmarks.product import run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import Responder, responder
from benchmarks.workload import Workload

__all__ = ["crowd"]

_OPEN = 10_000
# The default of limits.polls_per_minute.
_POLLS_PER_MINUTE = 6000


def crowd(extent: Extent) -> Iterator[Figure]:
    """CPU and memory with 10,000 responses open at once, from the last create until the first can end."""
    latency_s = 60.0 if extent.full else 20.0
    workload = Workload(rows=_OPEN, in_flight=_OPEN, polls_per_minute=_POLLS_PER_MINUTE)
    with scratch() as folder, responder(Latency(latency_s)) as server:
        workload.write(folder, server.base_url)
        with start(run_command(folder)) as child:
            opened_s = _until_open(child, server)
            before, cpu_s, held_from = server.seen(), child.cpu_s, time.perf_counter()
            time.sleep(latency_s - opened_s - 1.0)
            held_s, cpu_s, after = time.perf_counter() - held_from, child.cpu_s - cpu_s, server.seen()
            child.signal(signal.SIGTERM)
            ended = child.wait(codes=(128 + signal.SIGTERM,))
    yield figure("until all are open", opened_s, "s")
    yield figure("CPU while all are open", 100 * cpu_s / held_s, "% of a core", AtMost(15))
    yield figure("polls while all are open", (after.polls - before.polls) / held_s, "/s")
    yield figure("peak memory", ended.peak_mb, "MB", AtMost(300))


def _until_open(child: Child, server: Responder) -> float:
    """Waits until all are open; returns the seconds since the first create."""
    while not child.ended():
        seen = server.seen()
        if seen.seen:
            raise Broken(f"only {seen.creates:,} responses were created when the first one ended")
        if seen.creates == _OPEN:
            return time.time() - (seen.first_create_at or 0.0)
        time.sleep(0.1)
    child.wait()
    raise Broken("the run ended before all of its responses were open")
