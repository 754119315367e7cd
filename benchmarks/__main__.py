"""``python -m benchmarks``: runs scenarios, prints their figures, and writes them as JSON if asked."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import as_json, table_lines
from benchmarks.processes import CLIENT_CORE, SERVER_CORE, Broken
from benchmarks.scenarios import Extent, Scenario
from benchmarks.scenarios.accounts import accounts
from benchmarks.scenarios.beside_floor import documents, held_calls, hot_path
from benchmarks.scenarios.crowd import crowd
from benchmarks.scenarios.nights import nights
from benchmarks.scenarios.on_postgres import on_postgres
from benchmarks.scenarios.pipelines import pipelines
from benchmarks.scenarios.planning import planning
from benchmarks.scenarios.polls import polls
from benchmarks.scenarios.scale import scale
from benchmarks.scenarios.start_up import startup
from benchmarks.scenarios.view import view
from benchmarks.scenarios.webhooks import webhooks

__all__ = ["main"]

_SCENARIOS: dict[str, Scenario] = {
    "start-up": startup,
    "hot-path": hot_path,
    "postgres": on_postgres,
    "documents": documents,
    "held-calls": held_calls,
    "polls": polls,
    "webhooks": webhooks,
    "crowd": crowd,
    "planning": planning,
    "nights": nights,
    "pipelines": pipelines,
    "scale": scale,
    "view": view,
    "accounts": accounts,
}


def main() -> None:
    """Runs the scenarios named on the command line, or all of them."""
    listed = "\n".join(f"  {name:<10} {_summary(scenario)}" for name, scenario in _SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What a row costs in CPU, memory, polls and waiting, compared with the least that Python can do.",
        epilog=f"scenarios:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which to run (default: all)")
    parser.add_argument("--full", action="store_true", help="a million rows and long latencies; takes an hour")
    parser.add_argument("--rounds", type=int, default=3, help="how often product and floor alternate (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and their samples to FILE")
    wanted = parser.parse_args()
    unknown = set(wanted.scenarios) - set(_SCENARIOS)
    if unknown:
        parser.error(f"no scenario is named {', '.join(sorted(unknown))}; there are {', '.join(_SCENARIOS)}")
    try:
        taken = _run(wanted.scenarios or list(_SCENARIOS), Extent(full=wanted.full, rounds=wanted.rounds))
    except Broken as broken:
        sys.exit(f"error: {broken}")
    if wanted.json:
        wanted.json.write_text(json.dumps(taken, indent=1) + "\n")


def _run(names: list[str], extent: Extent) -> dict[str, Any]:
    machine = _machine()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep=" · ")
    results = []
    for name in names:
        started = time.perf_counter()
        print(f"\n{name}: {_summary(_SCENARIOS[name])}", flush=True)
        figures = list(_SCENARIOS[name](extent))
        taken_s, load = time.perf_counter() - started, os.getloadavg()[0]
        print(*table_lines(figures), f"  took {taken_s:.0f} s, at a load of {load:.1f}", sep="\n", flush=True)
        shown = [as_json(each) for each in figures]
        results.append({"scenario": name, "taken_s": taken_s, "load": load, "figures": shown})
    return {"machine": machine, "full": extent.full, "rounds": extent.rounds, "scenarios": results}


def _machine() -> dict[str, Any]:
    pinned = "no" if CLIENT_CORE is None else f"server on core {SERVER_CORE}, client on core {CLIENT_CORE}"
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "pinned": pinned,
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _summary(scenario: Scenario) -> str:
    return (scenario.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    main()
