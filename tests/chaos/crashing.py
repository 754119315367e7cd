"""The command line, in a process that kills itself at a named point: ``python -m tests.chaos.crashing POINT run …``.

A point is ``before:``, ``during:`` or ``after:`` and the name of a step of the product, with ``:N`` appended for the
Nth time. "During" is a few milliseconds after the start: the request is on the wire, or SQLite has the group of
writes. The process prints ``crashing at POINT`` and ends as after ``kill -9``.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any

__all__ = ["BATCHES", "STAGES", "SUBJECTS", "TURNS", "WHEN", "place_of"]

WHEN = ("before", "during", "after")
SUBJECTS = {
    "migrate": "orchestrator.stores.sqlite.database:migrate",
    "schema": "orchestrator.stores.sqlite.database:statements",
    "create_run": "orchestrator.stores.sql.sql_store:SqlStore.create_run",
    "add_rows": "orchestrator.stores.sql.sql_store:SqlStore.add_rows",
    "claim": "orchestrator.stores.sql.sql_store:SqlStore.claim",
    "accept": "orchestrator.stores.sql.sql_store:SqlStore.accept",
    "release": "orchestrator.stores.sql.sql_store:SqlStore.release",
    "end": "orchestrator.stores.sql.sql_store:SqlStore.end",
    "remember": "orchestrator.stores.sql.sql_store:SqlStore.remember",
    "set_run_state": "orchestrator.stores.sql.sql_store:SqlStore.set_run_state",
    "commit": "orchestrator.stores.sql.transaction:Transaction.write_sums",
    "submit": "orchestrator.executors.background:BackgroundExecutor.submit",
    "poll": "orchestrator.executors.background:BackgroundExecutor.poll",
    "recover": "orchestrator.engine.steps:Recover.recover",
    "lock": "orchestrator.stores.sqlite.run_lock:RunLock.__enter__",
    "export": "orchestrator.cli.run:export_to_file",
}
# Steps that run only if requests take several turns, wait for each other, or share answers.
TURNS = {
    "run_tools": "orchestrator.engine.steps:RunTools.run_tools",
    "add_tool_call": "orchestrator.stores.sql.sql_store:SqlStore.add_tool_call",
    "leave": "orchestrator.stores.sql.sql_store:SqlStore.leave",
    "link_chains": "orchestrator.stores.sql.sql_store:SqlStore.link_chains",
    "keep_conversation": "orchestrator.stores.sql.sql_store:SqlStore.keep_conversation",
    "new_conversation": "orchestrator.executors.background:BackgroundExecutor.new_conversation",
    "join": "orchestrator.stores.sql.sql_store:SqlStore.join",
}
# Steps that run only if a job has stages. The last four are parts of one transaction, in the writer's thread.
STAGES = {
    "pass_on": "orchestrator.stores.sql.stage_store:SqlStageStore.pass_on",
    "fill_group": "orchestrator.stores.sql.stage_store:SqlStageStore.fill_group",
    "split_group": "orchestrator.stores.sql.stage_store:SqlStageStore.split_group",
    "seal_stage": "orchestrator.stores.sql.stage_store:SqlStageStore.seal_stage",
    "seal": "orchestrator.engine.run_status:RunStatus.seal",
    "passing_on": "orchestrator.stores.sql.stage_store:_pass_on",
    "new_rows": "orchestrator.stores.sql.stage_store:_add_requests",
    "new_members": "orchestrator.stores.sql.stage_store:_add_members",
    "filling": "orchestrator.stores.sql.stage_store:_fill_group",
}
# Steps that run only in the lane of batches.
BATCHES = {
    "claim_batch": "orchestrator.stores.sql.provider_batches:SqlBatchStore.claim_batch",
    "upload_batch": "orchestrator.provider.batches:BatchClient.upload_batch",
    "create_batch": "orchestrator.provider.batches:BatchClient.create_batch",
    "attach_batch": "orchestrator.stores.sql.provider_batches:SqlBatchStore.attach_batch",
    "find_batches": "orchestrator.provider.batches:BatchClient.find_batches",
    "advance": "orchestrator.engine.steps.collect_batch:CollectBatch.advance",
    "settle_lines": "orchestrator.engine.steps.collect_batch:CollectBatch._settle_lines",
    "delete_file": "orchestrator.engine.steps.collect_batch:CollectBatch.delete_file",
}
_DURING_S = 0.003


class Crash:
    """Kills the process when its point is reached for the ``nth`` time."""

    def __init__(self, when: str, subject: str, nth: int) -> None:
        self._when = when
        self._name = f"{when}:{subject}"
        self._nth = nth
        self._calls = count(1)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the crash at its point."""

        def call(*args: Any, **kwargs: Any) -> Any:
            struck = next(self._calls) == self._nth
            if struck and self._when == "before":
                self.strike()
            if struck and self._when == "during":
                threading.Timer(_DURING_S, self.strike).start()
            result = function(*args, **kwargs)
            if struck and self._when == "after":
                if inspect.isawaitable(result):
                    return self._afterwards(result)
                self.strike()
            return result

        return call

    async def _afterwards(self, awaitable: Any) -> None:
        await awaitable
        self.strike()

    def strike(self) -> None:
        os.write(2, f"crashing at {self._name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def place_of(subject: str) -> tuple[Any, str]:
    """The class or module of a step, and the step's name in it."""
    module, _, path = {**SUBJECTS, **TURNS, **STAGES, **BATCHES}[subject].partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def main(point: str, arguments: list[str]) -> None:
    """Runs the command line with the crash installed."""
    from orchestrator.__main__ import main as command

    when, subject, *nth = point.split(":")
    crash = Crash(when, subject, int(*nth or ["1"]))
    owner, name = place_of(subject)
    setattr(owner, name, crash.wrap(getattr(owner, name)))
    sys.argv[1:] = arguments
    command()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
