"""The engine of one machine: it runs the tasks of a run side by side, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio

from orchestrator.core.errors import OrchestratorError, cause_of
from orchestrator.core.events import Progress
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import RunState, State
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import OtherRuns, Recover
from orchestrator.engine.tasks.housekeeping import Housekeeping
from orchestrator.engine.tasks.late_costs import LateCosts
from orchestrator.engine.webhook_hints import WebhookHints

__all__ = ["Ended", "LocalLoop", "ShardLoop", "Task"]

# How long a stop waits for calls on the wire, so that their ids and answers are not lost.
_STOP_GRACE_S = 3.0


class Task(Protocol):
    """One of the tasks that work on a run side by side; it may end by itself, and is cancelled when the run ends."""

    async def run(self) -> None:
        """Work until nothing is left for this task, or until cancelled."""
        ...


@fast_dataclass(kw_only=False)
class Ended:
    """How the engine's work ended. ``state`` ACTIVE means that there is more to do and the run can be resumed.

    ``cap`` is the scope of the budget that is used up, if that halted the run.
    """

    state: RunState
    reason: str | None = None
    message: str | None = None
    error: OrchestratorError | None = None
    cap: str | None = None


class LocalLoop:
    """Works on one run: recovers what is open, runs ``tasks``, and knows when the run is over."""

    # Whether the run has no other process: then what concerns all of it is done here.
    _is_alone = True

    def __init__(
        self,
        run: RunContext,
        router: Router,
        recover: Recover,
        other_runs: OtherRuns,
        *,
        tasks: Sequence[Task],
        housekeeping: Housekeeping,
        late_costs: LateCosts,
    ) -> None:
        self._run = run
        self._status = run.status
        self._router = router
        self._recover = recover
        self._other_runs = other_runs
        self._tasks: Sequence[Task] = (housekeeping, late_costs, *tasks) if self._is_alone else (housekeeping, *tasks)
        self._housekeeping = housekeeping
        self._late_costs = late_costs

    @property
    def hints(self) -> WebhookHints | None:
        """What takes the events of the provider, if the run has webhooks."""
        return self._status.hints

    @property
    def progress(self) -> Progress:
        """The live counts."""
        return self._run.observation.progress

    async def run(self) -> Ended:
        """Work until the run is over, halted or interrupted; cancelling this is safe, like a crash."""
        await self._housekeeping.recall()
        try:
            await self._work()
            self._housekeeping.check_files()
            if self._status.may_poll and self._is_alone:
                await self._late_costs.finish()
            if self._status.cancelling:
                # A request that was being sent when the cancel came may be pending again.
                await self._run.store.request_cancel(self._run.record.id, self._run.clock.now())
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._housekeeping.flush()
        return self._ended()

    def interrupt(self) -> None:
        """Stop soon: send nothing new, and wait briefly for calls on the wire."""
        self._status.interrupted = True
        self.progress.stopping = True
        self._status.wake()

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            await self._recover_open()
            for task in self._tasks:
                tasks.start_soon(task.run)
            await self._until_done()
            tasks.cancel_scope.cancel()

    async def _recover_open(self) -> None:
        """Resume what an earlier process left open, the oldest first: the provider may soon forget it."""
        if self._is_alone:
            for attempt in await self._run.reader.open_attempts(self._run.record.id):
                self._router.route(await self._recover.recover(attempt))
        await self._other_runs.check()

    async def _until_done(self) -> None:
        status = self._status
        while True:
            while not status.done:
                if not status.may_poll:
                    with anyio.move_on_after(_STOP_GRACE_S):
                        # An id or an answer that arrives now need not be recovered by the next process.
                        while status.sending or status.polling:
                            await status.end_signal.wait()
                    return
                await status.end_signal.wait()
            # Another run may have taken a response over meanwhile, or have the answer that this one waits for.
            await self._other_runs.check()
            if status.done:
                return

    def _ended(self) -> Ended:
        status = self._status
        if status.cancelling and not status.in_flight:
            return Ended(RunState.CANCELLED, "cancelled")
        if status.halted is not None:
            halted = status.halted
            return Ended(RunState.HALTED, halted.code, halted.message, status.error, halted.cap)
        if status.interrupted:
            return Ended(RunState.ACTIVE)
        if status.held:
            held = self.progress.requests[State.IN_DOUBT]
            return Ended(
                RunState.HALTED, "in_doubt", f"{held} requests may have been sent and are held for your decision"
            )
        if status.held_by:
            message = (
                f"requests wait for those of run {', '.join(status.held_by)} that may have been sent and are held "
                f"for your decision: orchestrator retry {status.held_by[0]} --resolve-in-doubt resend|fail; if that "
                "run was stopped with batches open, run it again"
            )
            return Ended(RunState.HALTED, "in_doubt", message)
        if status.until is not None:
            return Ended(RunState.ACTIVE, "until", f"stage {status.until} is answered; later stages were not asked")
        return Ended(RunState.FINISHED)


class ShardLoop(LocalLoop):
    """Works on some shards of a run beside other processes; what they have open is recovered as they are taken."""

    _is_alone = False
