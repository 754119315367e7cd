"""What was acknowledged before a ``kill -9`` is there after it, and everything fits together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.states import State
from orchestrator.stores.sqlite import SqliteStore

from .audit import audit
from .builders import a_run, ask

pytestmark = pytest.mark.anyio


def acknowledged_before_the_kill(database: Path, moves: int) -> list[list[str]]:
    """Let a worker run until it was told of so many moves, kill it, and return all that it was told of."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stores.worker", str(database)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
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
    for moves in (1, 7, 120, 333):
        for what, *told in acknowledged_before_the_kill(database, moves):
            match what, told:
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
                    raise AssertionError(f"the worker said {what} {told}")
        sums = audit(database)
        assert sums.cost_pusd >= spent
        # What is left half-way is there to be taken up, and nothing else is: the worker works on twenty at a time.
        left_open = sums.states[State.SUBMITTING] + sums.states[State.SUBMITTED]
        assert left_open <= 20 * 4
