"""Pipelines: what a request costs that is one of several stages, beside one of a single stage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import AtLeast, AtMost, Figure, figure
from benchmarks.latency import Latency
from benchmarks.processes import Broken, measure
from benchmarks.product import run_command, scratch, start_up
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["pipelines"]

_LATENCY = Latency(0.05)
# How many rows are sent per second to measure how a second stage uses its own limit.
_LIMITED_ROWS, _PER_MINUTE = 6_000, 12_000
# So many bytes has a prompt of the three stages on average, with the answers that it repeats.
_PROMPT_BYTES = 584


def pipelines(extent: Extent) -> Iterator[Figure]:
    """Three stages beside a single one: CPU, memory, and how soon the second stage sends."""
    # Enough rows that the forecast at the start of each, a quarter of a second, is not what is compared.
    taken = [_beside_single(8_000) for _ in range(extent.rounds)]
    yield figure("single stage: CPU per request", [each.single_ms for each in taken], "ms")
    yield figure("three stages: CPU per request", [each.staged_ms for each in taken], "ms")
    yield figure(
        "three stages / single stage", [each.staged_ms / each.single_ms for each in taken], "×", AtMost(1.15)
    )
    used = _second_pool_used()
    yield figure("second stage's limit used while the first is sent", 100 * used, "%", AtLeast(90))
    for rows in (10_000, 1_000_000) if extent.full else (10_000,):
        yield from _large(rows)


@dataclass(frozen=True, slots=True)
class _Taken:
    single_ms: float
    staged_ms: float


def _beside_single(rows: int) -> _Taken:
    staged = Workload(rows=rows, stages=True)
    single = Workload(rows=staged.requests, prompt_bytes=_PROMPT_BYTES, two_columns=True)
    return _Taken(_cpu_ms(single), _cpu_ms(staged))


def _cpu_ms(workload: Workload) -> float:
    start_cpu_s = start_up(stages=workload.stages).cpu_s
    with scratch() as folder, responder(_LATENCY) as server:
        workload.write(folder, server.base_url)
        cost = measure(run_command(folder))
        if server.seen().seen != workload.requests:
            raise Broken(f"{server.seen().seen} of {workload.requests} requests were answered")
    return (cost.cpu_s - start_cpu_s) / workload.requests * 1e3


def _second_pool_used() -> float:
    """Both stages have the same limit: the second can send as fast as the first, from its first answer on."""
    with scratch() as folder, responder(_LATENCY) as server:
        Workload(rows=_LIMITED_ROWS, stages=True, requests_per_minute=_PER_MINUTE).write(folder, server.base_url)
        measure(run_command(folder))
        return _share_used(folder / "runs.db")


def _share_used(database: Path) -> float:
    with closing(sqlite3.connect(database)) as connection:
        first, second = (
            [at for (at,) in connection.execute(_SENT, (stage,)).fetchall()] for stage in ("facts", "checked")
        )
    seconds = first[-1] - second[0]
    return sum(at <= first[-1] for at in second) / (seconds * _PER_MINUTE / 60)


_SENT = """
SELECT attempt.sent_at FROM attempt JOIN request ON request.id = attempt.request_id WHERE request.stage = ?
ORDER BY attempt.sent_at
"""


def _large(rows: int) -> Iterator[Figure]:
    workload = Workload(rows=rows, stages=True)
    with scratch() as folder, responder(_LATENCY) as server:
        workload.write(folder, server.base_url)
        cost = measure(run_command(folder))
        seen = server.seen()
    name = f"{rows:,} rows, {seen.seen:,} requests"
    yield figure(f"peak memory, {name}", cost.peak_mb, "MB", AtMost(200))
    yield figure(f"requests/s, {name}", seen.rows_per_s, "/s")
