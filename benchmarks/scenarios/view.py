"""The web view: how long each page takes on a large run, its memory, and what an open page costs a run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import httpx

from benchmarks.figures import AtMost, Figure, figure
from benchmarks.large_database import FIRST, SECOND, write_runs
from benchmarks.latency import Latency
from benchmarks.processes import SERVER_CORE, Cost, measure, on_core
from benchmarks.product import command, run_command, scratch
from benchmarks.scenarios import Extent
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["view"]

_CALLS = 40


def view(extent: Extent) -> Iterator[Figure]:
    """Each page of a large run at the 95th percentile, the server's memory, and a run beside an open page."""
    rows = 1_000_000 if extent.full else 50_000
    with scratch() as folder:
        write_runs(folder / "runs.db", rows)
        with _serving(folder) as (client, process):
            for name, paths in _pages(rows).items():
                taken = [_timed_ms(client, paths[turn % len(paths)]) for turn in range(_CALLS + len(paths))]
                # The first call of each imports, or finds its figures being computed.
                ordered = sorted(taken[len(paths) :])
                yield figure(f"{name}, p95", ordered[int(0.95 * (len(ordered) - 1))], "ms", AtMost(100))
            yield figure("memory of the server", _peak_mb(process.pid), "MB", AtMost(150))
    yield from _beside(extent)


def _pages(rows: int) -> Mapping[str, list[str]]:
    base = f"/run/{FIRST}"
    middle, last = rows // 2, rows * 19 // 20
    keys = [f"row-{number:07d}" for number in range(3, rows, max(1, rows // 7))]
    return {
        "runs": ["/"],
        "run": [base],
        "rows": [f"{base}/rows?after={after}" for after in (0, middle, last - 1, rows - 60)],
        "rows, earlier": [f"{base}/rows?before={before}" for before in (60, middle, rows)],
        "failed": [f"{base}/rows?state=failed&after={after}" for after in (0, middle, last)],
        "failed, a code": [f"{base}/rows?state=failed&code=server_error&after={after}" for after in (0, middle)],
        "waiting": [f"{base}/rows?state=pending&after={after}" for after in (0, middle, last)],
        "in doubt": [f"{base}/rows?state=in_doubt"],
        "cancelled": [f"{base}/rows?state=cancelled"],
        "flagged": [f"{base}/rows?flag=check&after={after}" for after in (0, middle)],
        "search, found": [f"{base}/rows?q=Row+{number}+of" for number in (77, middle)],
        "search, not found": [f"{base}/rows?q=no+such+words"],
        "search for a key": [f"{base}/rows?q={key}" for key in keys],
        "sorted": [f"{base}/rows?sort={order}" for order in ("cost", "latency", "tokens")],
        "row": [f"{base}/row/{key}" for key in keys],
        "row, in a filter": [f"{base}/row/{key}?state=failed" for key in keys],
        "costs": [f"{base}/costs", f"{base}/costs?by=state,day"],
        "stages": [f"{base}/stages"],
        "compare": [f"/compare?a={SECOND}&b={FIRST}", f"/compare?a={FIRST}&b={SECOND}&only=answers"],
        "compare, outcomes": [f"/compare?a={SECOND}&b={FIRST}&only=outcomes"],
    }


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """The command with a client that has its cookie."""
    with on_core(SERVER_CORE):
        process = subprocess.Popen(
            command(folder, "view", "--no-browser"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    try:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        address = httpx.URL(process.stdout.readline().strip())
        with httpx.Client(
            base_url=address.copy_with(path="/", query=None), timeout=60, follow_redirects=True
        ) as client:
            client.get(address).raise_for_status()
            yield client, process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _timed_ms(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) / 1000


def _beside(extent: Extent) -> Iterator[Figure]:
    """The CPU and the time of a run with a page open, beside the same run without."""
    rows = 12_000 if extent.full else 8_000
    alone, watched = [], []
    for turn in range(extent.rounds * (5 if extent.full else 2)):
        # In turns, and each first once, so that a busy minute does not decide.
        for is_watched in (turn % 2 == 0, turn % 2 != 0):
            (watched if is_watched else alone).append(_run(rows, is_watched=is_watched))
    yield figure("CPU of the server with a page open", [each.share for each in watched], "% of a core", AtMost(2))
    # Of all rounds together: single runs differ by far more than what is looked for.
    cpu, wall = (
        100 * (sum(getattr(each.run, name) for each in watched) / sum(getattr(each.run, name) for each in alone) - 1)
        for name in ("cpu_s", "wall_s")
    )
    yield figure("CPU that an open page costs a run", cpu, "%", AtMost(2))
    yield figure("time that an open page costs a run", wall, "%")


@dataclass(frozen=True, slots=True)
class _Taken:
    run: Cost
    # Of the server's CPU, in percent of a core, while the page was open.
    share: float = 0.0


def _run(rows: int, *, is_watched: bool) -> _Taken:
    with scratch() as folder, responder(Latency(0.05)) as server:
        Workload(rows=rows).write(folder, server.base_url)
        # The database must be there before it is shown; both runs find the same one.
        write_runs(folder / "runs.db", 100)
        if not is_watched:
            return _Taken(measure(run_command(folder)))
        with _serving(folder) as (client, process):
            # Its first row imports what later ones need: that is not the cost of an open page.
            client.get(f"/run/{FIRST}/row/row-0000003").raise_for_status()
            return _watched(folder, client, process.pid)


def _watched(folder: Path, client: httpx.Client, server: int) -> _Taken:
    """A run whose page is open from its first second to its last."""
    ended, opened = Event(), [(0.0, 0.0)]

    def follow() -> None:
        while not ended.wait(0.2):
            if client.get("/run/measured").status_code == 200:
                with client.stream("GET", "/run/measured/live") as events:
                    for number, _ in enumerate(events.iter_lines()):
                        if number == 0:
                            opened[0] = (time.perf_counter(), _cpu_s(server))
                        if ended.is_set():
                            return

    listener = Thread(target=follow)
    listener.start()
    try:
        run = measure(run_command(folder))
        began, before = opened[0]
        return _Taken(run, 100 * (_cpu_s(server) - before) / (time.perf_counter() - began))
    finally:
        ended.set()
        listener.join()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
