"""The engine of one machine: it decides when to call a step, until a run has nothing left to do."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.events import Progress
from orchestrator.core.states import RunState, State
from orchestrator.engine import steps
from orchestrator.engine.items import AwaitingTools, Held, Queued, Waiting
from orchestrator.engine.learned_state import LearnedState
from orchestrator.engine.steps import Context
from orchestrator.engine.tasks.housekeeping import Housekeeping
from orchestrator.engine.tasks.late_costs import LateCosts
from orchestrator.engine.tasks.planner import Planner
from orchestrator.engine.tasks.poller import Poller
from orchestrator.engine.tasks.sender import Sender
from orchestrator.engine.tasks.stream_listener import StreamListener
from orchestrator.engine.tasks.tool_runner import ToolRunner
from orchestrator.stores.base import Reader
from orchestrator.stores.reads import OpenAttempt

__all__ = ["Ended", "LocalLoop"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the engine came to its end. ``state`` ACTIVE means that it was interrupted and can go on."""

    state: RunState
    reason: str | None = None
    message: str | None = None
    error: OrchestratorError | None = None


class LocalLoop:
    """Plans, sends and polls one run at once, and knows when it is over."""

    def __init__(
        self,
        context: Context,
        *,
        reader: Reader,
        planner: Planner,
        sender: Sender,
        poller: Poller,
        actor: ToolRunner,
        upkeep: Housekeeping,
        learned: LearnedState,
        late: LateCosts,
        listener: StreamListener | None = None,
    ) -> None:
        self._context = context
        self._run_status = context.flow
        self._reader = reader
        self._planner = planner
        self._sender = sender
        self._poller = poller
        self._tool_runner = actor
        self._housekeeping = upkeep
        self._learned = learned
        self._late = late
        self._listener = listener

    @property
    def progress(self) -> Progress:
        """The live counts."""
        return self._context.progress

    async def run(self) -> Ended:
        """Work until the run is over or stopped; what is on disk stays true whenever this is cancelled."""
        await self._learned.recall()
        try:
            async with anyio.create_task_group() as tasks:
                self._tool_runner.start_in(tasks)
                if self._listener is not None:
                    self._listener.start_in(tasks)
                await self._recover()
                tasks.start_soon(self._poller.run, tasks)
                tasks.start_soon(self._housekeeping.run)
                tasks.start_soon(self._late.run)
                tasks.start_soon(self._planner.run)
                tasks.start_soon(self._sender.run, tasks)
                await self._until_done()
                tasks.cancel_scope.cancel()
            if self._can_still_poll:
                await self._late.finish()
            if self._run_status.cancelling:
                # What was being sent when the cancel came may have gone back to the queue.
                await self._context.store.request_cancel(self._context.run.id, self._context.clock.now())
        except BaseExceptionGroup as group:
            raise _only_cause(group) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._housekeeping.flush()
        return self._ended()

    def leave(self) -> None:
        """Stop at once but cleanly: nothing new is sent, creates on the wire may still answer for a moment."""
        self._run_status.leaving = True
        self.progress.stopping = True
        self._run_status.wake()

    @property
    def _can_still_poll(self) -> bool:
        stopped = self._run_status.stopped
        return not self._run_status.leaving and (stopped is None or stopped.collect)

    # ── start ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _recover(self) -> None:
        """Take up what an earlier process left open, the oldest first: the provider may soon forget it."""
        for attempt in await self._reader.open_attempts(self._context.run.id):
            await self._take_up(attempt)

    async def _take_up(self, attempt: OpenAttempt) -> None:
        after = await steps.recover(self._context, attempt, self._reader)
        match after:
            case Waiting():
                self._poller.add(after)
            case Queued(not_before):
                self._sender.put_off(not_before)
            case AwaitingTools():
                self._tool_runner.add(after)
            case Held():
                self._run_status.held += 1

    # ── end ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _until_done(self) -> None:
        flow = self._run_status
        while not flow.done:
            if flow.breaking_off:
                with anyio.move_on_after(self._context.settings.stop_grace_s):
                    # An id that gets lost, or an answer that was delivered and is not written down, is a pity.
                    while flow.sending or flow.looking:
                        await flow.changed.wait()
                return
            await flow.changed.wait()

    def _ended(self) -> Ended:
        flow = self._run_status
        if flow.cancelling and not flow.in_flight:
            return Ended(RunState.CANCELLED, "cancelled")
        if flow.stopped is not None:
            return Ended(RunState.HALTED, flow.stopped.code, flow.stopped.message, flow.error)
        if flow.leaving:
            return Ended(RunState.ACTIVE)
        if flow.held:
            held = self.progress.requests[State.IN_DOUBT]
            return Ended(
                RunState.HALTED, "in_doubt", f"{held} requests may have been sent and are held for your decision"
            )
        return Ended(RunState.FINISHED)


def _only_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error worth telling: one meant for the user before any other."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            leaves.append(error)
    for error in leaves:
        if isinstance(error, OrchestratorError):
            return error
    return leaves[-1]
