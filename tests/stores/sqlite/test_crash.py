"""What was acknowledged before a ``kill -9`` is there after it, and everything fits together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.states import State
from orchestrator.stores.sqlite import SqliteStore
from tests.stores.builders import a_run

from .audit import ask, audit

pytestmark = pytest.mark.anyio


def acknowledged_before_the_kill(database: Path, moves: int) -> list[list[str]]:
    """Run a worker until it has printed this many moves, kill it, and return all that it printed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stores.sqlite.worker", str(database)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(moves)]
        worker.kill()
        lines += worker.stdout.readlines()
    assert worker.returncode == -9
    return [line.split() for line in lines if line.endswith("\n")]


async def test_nothing_acknowledged_is_lost(database: Path) -> None:
    async with SqliteStore.open(database) as store:
        await store.create_run(a_run())
    spent = 0
    for moves in (7, 150):
        for what, *values in acknowledged_before_the_kill(database, moves):
            match what, values:
                case "planned", [position]:
                    assert ask(database, "SELECT count(*) FROM request")[0][0] >= int(position)
                    assert ask(database, "SELECT planned_position FROM run")[0][0] >= int(position)
                case "claimed", [request_id, attempt_id]:
                    assert ask(database, "SELECT request_id FROM attempt WHERE id = ?", [attempt_id]) == [
                        (int(request_id),)
                    ]
                case "accepted", [request_id, response_id]:
                    found = ask(database, "SELECT request_id FROM attempt WHERE response_id = ?", [response_id])
                    assert found == [(int(request_id),)]
                case "ended", [request_id, state, cost_pusd]:
                    assert ask(database, "SELECT state FROM request WHERE id = ?", [request_id]) == [(state,)]
                    spent += int(cost_pusd)
                case _:
                    raise AssertionError(f"the worker printed {what} {values}")
        sums = audit(database)
        assert sums.cost_pusd >= spent
        # What is left open can be taken up, and there is nothing else: the worker works on twenty at a time.
        left_open = sums.states[State.SUBMITTING] + sums.states[State.SUBMITTED]
        assert left_open <= 20 * 2
