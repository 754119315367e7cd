"""A long run under every fault at once: ``python -m tests.chaos.soak MINUTES``. Does the process grow?

A sandbox with all faults serves a run of about MINUTES at a steady rate. Once a second the memory, open files,
threads and tasks of the product's process are measured. It prints a table over time; the exit code is 1 if anything
grew from the second quarter of the run to the last, or if the costs of both sides differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.core.states import State
from tests.stores.sqlite.audit import audit

from .everything import JOB, rates, rows_of_speeches
from .station import Provider, Station

__all__ = ["soak"]

# The limit of creates, and the rows that they settle if a third of all attempts fails.
_CREATES_PER_MINUTE = 600
_ROWS_PER_MINUTE = 340
_LINES = 15
# Longer than a reply takes on a busy machine: a reply that is sent but not read counts only in the sandbox's costs.
_TIMEOUTS = {"read": "10s", "queued": "20s", "run": "30s"}


@dataclass(frozen=True)
class Measure:
    """A measure, and how much more at the end does not count as growth: a share and a number."""

    name: str
    share: float
    number: float


# The page caches of SQLite fill as the database grows, to 8 MB per connection. Workers wait for the next burst of
# calls (engine/tasks/worker_pool.py), so there are as many as were ever needed at once: up to 64 of a kind. The other
# tasks vary with the number of open calls.
MEASURES = (
    Measure("memory_mb", 0.0, 16.0),
    Measure("files", 0.1, 4.0),
    Measure("threads", 0.0, 1.0),
    Measure("tasks", 0.0, 96.0),
)


def soak(minutes: float, folder: Path) -> list[str]:
    """Runs for about ``minutes``, prints the measurements, and returns what is wrong."""
    rows = max(100, int(_ROWS_PER_MINUTE * minutes))
    limits = {"requests_per_minute": _CREATES_PER_MINUTE, "polls_per_minute": 60_000, "max_in_flight": 64}
    gauge = folder / "gauge.jsonl"
    with Provider(folder, {"seed": 5, "faults": rates()}) as provider:
        address = {"base_url": f"{provider.address}/v1", "profile": "ogx"}
        config = {"provider": address, "limits": limits, "timeouts": _TIMEOUTS}
        station = Station(folder, rows=rows, job=JOB, config=config, provider=provider)
        station.write_rows(rows_of_speeches(rows))
        station.launcher = ("tests.chaos.watched", str(gauge))
        print_lines(f"{rows:,} rows under {len(rates()) - 1} faults, {_CREATES_PER_MINUTE} creates per minute")
        with (folder / "run.log").open("w") as log:
            run = station.start(*station.run_arguments("--progress", "none"), stderr=log)
            ended = station.end(run, timeout_s=60 * minutes * 2 + 120)
        ledger = provider.ledger()
    samples = [json.loads(line) for line in gauge.read_text().splitlines()]
    show(samples)
    if ended.code not in (0, 3):
        return [f"the run ended with code {ended.code}: {(folder / 'run.log').read_text()[-2000:]}"]
    return [*grown(samples), *differences(station, ended.summary, ledger, rows)]


def show(samples: Sequence[dict[str, float]]) -> None:
    """Prints the samples as a table of a few lines."""
    print_lines("", f"{'minute':>8}" + "".join(f"{measure.name:>12}" for measure in MEASURES))
    for sample in samples[:: max(1, len(samples) // _LINES)]:
        print_lines(f"{sample['at_s'] / 60:8.1f}" + "".join(f"{sample[measure.name]:12,.0f}" for measure in MEASURES))


def grown(samples: Sequence[dict[str, float]]) -> list[str]:
    """The measures that grew from the second quarter to the last one; the first is for warming up.

    Compares the lower quartiles of both quarters: bursts do not raise them, leaks do.
    """
    quarter, found = len(samples) // 4, []
    print_lines("", f"{'':12}{'2nd quarter':>12}{'4th quarter':>12}")
    for measure in MEASURES:
        values = [sample[measure.name] for sample in samples]
        before, after = (quantiles(part, n=4)[0] for part in (values[quarter : 2 * quarter], values[3 * quarter :]))
        print_lines(f"{measure.name:12}{before:12,.1f}{after:12,.1f}")
        if after > before * (1 + measure.share) + measure.number:
            found.append(f"{measure.name} grew from {before:,.1f} to {after:,.1f}")
    return found


def differences(station: Station, summary: dict[str, Any], ledger: dict[str, Any], rows: int) -> list[str]:
    """Where the database disagrees with itself or with the sandbox's ledger."""
    states = audit(station.database).states
    seen, lost, twice = ledger["seen_by_client"], ledger["replies_lost"]["total"], ledger["duplicates"]["usable"]
    print_lines(
        "",
        f"{summary['elapsed_s'] / 60:.1f} minutes; "
        + ", ".join(f"{count:,} {state}" for state, count in states.items())
        + f"; {summary['attempts']:,} attempts, {summary['polls']:,} polls",
        f"cost ${summary['cost_usd']}; the sandbox says ${seen['cost_usd']}",
        f"{twice} usable answers came twice; {lost:,} replies were lost",
    )
    found = []
    if states[State.SUCCEEDED] + states[State.FAILED] != rows:
        found.append(f"not every one of {rows:,} rows has ended")
    if (summary["cost_usd"], summary["usage"]) != (seen["cost_usd"], seen["usage"]):
        found.append("the bill differs from the sandbox's")
    if twice > lost:
        found.append("something was paid for twice that could have been known")
    return found


def print_lines(*lines: str) -> None:
    """Prints lines at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main(minutes: float) -> int:
    """Soaks in a temporary folder; returns the exit code."""
    with TemporaryDirectory(prefix="soak-") as folder:
        wrong = soak(minutes, Path(folder))
    print_lines("", *(f"WRONG: {what}" for what in wrong) if wrong else ["nothing grew, and the costs agree"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
