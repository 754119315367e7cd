"""Sends each request that is ready as soon as the limits and the budget admit it."""

from __future__ import annotations

import anyio

from orchestrator.core.lanes import Lane
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import After, AskedElsewhere, Halted, Prepared
from orchestrator.engine.preparation import too_large
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import OtherRuns, Submit, refuse
from orchestrator.engine.tasks.admission import Admission, admit
from orchestrator.engine.tasks.refill import MOST_READY, Refill
from orchestrator.engine.tasks.run_capacity import RunCapacity
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.engine.tasks.worker_pool import WorkerPool
from orchestrator.policy.polling.deadlines import may_send

__all__ = ["SendGate", "Sender"]


class SendGate:
    """What holds requests back: rate limits, the budget, outages, and the number of places."""

    def __init__(self, run: RunContext, queue: SendQueue, funds: Funds) -> None:
        self._run = run
        self._queue = queue
        self._capacity = RunCapacity(run)
        self._budget = funds.budget
        self._has_siblings = funds.has_siblings

    def admit(self, now: float) -> Admission:
        """Take from the queue what may be sent now."""
        # Those of which nothing is ready hold back none of the others.
        stages = self._run.stages
        if len(stages) > 1:
            stages = {name: stage for name, stage in stages.items() if self._queue.of_stage(name)}
        self._capacity.count(now, stages)
        admission = admit(now, self._queue.ready, budget=self._budget, capacity_of=self._capacity.of)
        if admission.admitted:
            self._capacity.note_probes(now)
        return admission

    @property
    def shares_limits(self) -> bool:
        """Whether what is too large for the limits here may fit where one process has all of them."""
        return self._has_siblings

    def holds(self, lane: Lane) -> bool:
        """Whether create calls of a lane last until the response has ended."""
        return self._capacity.capabilities(lane).held

    def halt(self, admission: Admission) -> Halted | None:
        """Why nothing can ever be sent again, if nothing in flight could change that."""
        run, queue, budget = self._run, self._queue, self._budget
        if run.status.in_flight:
            return None
        if budget.has_shares and run.status.may_get_rows:
            return None
        if admission.held_by == "budget" and not budget.waits_for_others:
            whose = "" if budget.short_of == "run" else f" of the {budget.short_of}'s budget"
            left = f"the worst case of the next request is more than what is left{whose}"
            return Halted("budget", left, collect=True, cap=budget.short_of)
        waiting = [name for name, ready in queue.ready.items() if ready]
        if waiting and queue.delayed_at is None and not admission.admitted:
            stuck = [self._capacity.stuck(name) for name in waiting]
            if None not in stuck:
                return stuck[0]
        only_later = run.status.planned and not len(queue) and queue.delayed_at is not None
        if only_later and not may_send(queue.delayed_at or 0.0, run.record.deadline_at):
            return Halted("deadline", "what is left would have to wait beyond the run's deadline", collect=True)
        return None

    def wake_at(self, now: float, admission: Admission) -> float | None:
        """When to ask again; None if only an event can change the answer."""
        delayed_at = self._queue.delayed_at if len(self._queue) < MOST_READY else None
        times = [at for at in (admission.ask_again_at, delayed_at, self._capacity.opens_at(now)) if at is not None]
        return max(now, min(times)) if times else None

    def show(self, admission: Admission) -> None:
        """Show in the live counts what holds the sending back."""
        held_by, until = admission.held_by, admission.ask_again_at
        if (probe_at := self._capacity.next_probe_at) is not None:
            held_by, until = "outage", probe_at
        progress = self._run.observation.progress
        progress.waiting_for, progress.waiting_until = held_by, until


class Sender:
    """Takes ready requests from the send queue and submits them, many at a time."""

    def __init__(
        self,
        run: RunContext,
        queue: SendQueue,
        refill: Refill,
        *,
        gate: SendGate,
        submit: Submit,
        other_runs: OtherRuns,
        router: Router,
    ) -> None:
        self._run = run
        self._status = run.status
        self._queue = queue
        self._refill = refill
        self._gate = gate
        self._submit = submit
        self._other_runs = other_runs
        self._router = router

    async def run(self) -> None:
        """Send until nothing more may be sent, or until cancelled."""
        async with anyio.create_task_group() as tasks:
            workers = WorkerPool(tasks, self._send)
            while self._status.may_send:
                if self._status.waits_for_plan:
                    await self._run.clock.wait(self._status.send_signal, None)
                else:
                    await self._send_admitted(workers)

    async def _send_admitted(self, workers: WorkerPool[Prepared]) -> None:
        """Start what may be sent now; if that is nothing, wait until that may have changed."""
        await self._refill.fill()
        run, status, gate = self._run, self._status, self._gate
        now = run.clock.now()
        admission = gate.admit(now)
        for prepared in admission.admitted:
            endpoint, holds = run.endpoints[prepared.endpoint], gate.holds(prepared.lane)
            status.sending += 1
            endpoint.sending += 1
            endpoint.holding += holds
            workers.start(prepared)
        for prepared in admission.oversized:
            if not gate.shares_limits:
                await refuse(run, prepared.request, too_large(prepared.tokens))
            self._queue.forget(prepared)
        self._note_empty()
        gate.show(admission)
        if admission.admitted or admission.oversized:
            return
        if (halted := gate.halt(admission)) is not None:
            status.halt(halted)
        else:
            await run.clock.wait(status.send_signal, gate.wake_at(now, admission))

    async def _send(self, prepared: Prepared) -> None:
        after: After | AskedElsewhere
        try:
            after = await self._submit.submit(prepared)
            if isinstance(after, AskedElsewhere):
                after = await self._other_runs.follow(prepared, after.others)
        finally:
            endpoint = self._run.endpoints[prepared.endpoint]
            self._status.sending -= 1
            endpoint.sending -= 1
            endpoint.holding -= self._gate.holds(prepared.lane)
            self._queue.forget(prepared)
        self._router.route(after)
        self._note_empty()
        self._status.send_signal.set()
        self._status.notify_if_done()

    def _note_empty(self) -> None:
        status, queue = self._status, self._queue
        queue.all_read = self._refill.exhausted
        if queue.in_forming_batches and queue.drained:
            status.batch_signal.set()
        status.queue_empty = queue.drained and not queue.in_forming_batches
        if status.queue_empty:
            status.notify_if_done()
