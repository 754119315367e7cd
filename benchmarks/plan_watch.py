"""Watches in a process of its own how a run is planned: when its first rows appear, and when all are stored."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from orchestrator import Config, Orchestrator
from orchestrator.core.errors import OrchestratorError

__all__ = ["main"]

_INTERVAL_S = 0.05


def main() -> None:
    """Prints two observations, ``{"at": …, "rows": …}``, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_watch", description=__doc__)
    parser.add_argument("database")
    parser.add_argument("run")
    parser.add_argument("rows", type=int)
    wanted = parser.parse_args()
    print(json.dumps(asyncio.run(_watch(wanted.database, wanted.run, wanted.rows))))


async def _watch(database: str, run: str, rows: int) -> list[dict[str, float]]:
    first: dict[str, float] | None = None
    while True:
        planned = await _planned(database, run)
        if planned:
            observation = {"at": time.time(), "rows": planned}
            first = first or observation
            if planned == rows:
                return [first, observation]
        await asyncio.sleep(_INTERVAL_S)


async def _planned(database: str, run: str) -> int:
    try:
        async with Orchestrator(Config(), database=database) as orchestrator:
            return sum((await orchestrator.status(run)).requests.values())
    except OrchestratorError:
        return 0  # the database or the run does not exist yet


if __name__ == "__main__":
    main()
