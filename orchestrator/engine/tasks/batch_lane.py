"""The lane of batches: gathers requests, sends them as one, follows each batch and collects its lines."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from orchestrator.core.lanes import Lane
from orchestrator.engine.funds import Funds
from orchestrator.engine.items import Halted, Returned
from orchestrator.engine.open_batches import FormingBatch, OpenBatch, line_size
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.steps import OtherRuns
from orchestrator.engine.steps.collect_batch import CollectBatch
from orchestrator.engine.steps.send_batch import SendBatch
from orchestrator.engine.tasks.send_queue import QueueName, SendQueue
from orchestrator.policy.batches.enqueued_tokens import EnqueuedTokens
from orchestrator.policy.batches.forming import BatchLimits, closes_at, has_room

__all__ = ["BatchLane", "BatchSteps"]

# So often an open batch notices that it is no longer wanted, and a batch that nothing lets in is tried again.
_ATTENTION_S = 1.0


class BatchSteps:
    """What the lane calls: each step writes down what it does, and may be repeated."""

    def __init__(self, send: SendBatch, collect: CollectBatch, other_runs: OtherRuns) -> None:
        self.send = send
        self.collect = collect
        self.other_runs = other_runs


class BatchLane:
    """One batch of each stage and model takes in requests; any number are at the provider."""

    def __init__(
        self,
        run: RunContext,
        queue: SendQueue,
        steps: BatchSteps,
        *,
        funds: Funds,
        router: Router,
        limits: BatchLimits,
        tokens: EnqueuedTokens,
    ) -> None:
        self._run = run
        self._status = run.status
        self._queue = queue
        self._steps = steps
        self._funds = funds
        self._router = router
        self._limits = limits
        self._tokens = tokens
        self._forming: dict[tuple[str, str], FormingBatch] = {}
        self._short_of_funds = False

    async def run(self) -> None:
        """Resume what an earlier process left, then gather and send until nothing more may be sent."""
        run, status = self._run, self._status
        try:
            async with anyio.create_task_group() as tasks:
                await self._resume(tasks)
                while status.may_send:
                    wake_at = await self._gather(tasks)
                    await run.clock.wait(status.batch_signal, wake_at)
                self._drop()
        finally:
            for forming in self._forming.values():
                forming.close()

    async def _resume(self, tasks: TaskGroup) -> None:
        run, status = self._run, self._status
        for stored in await run.reader.batches(run.record.id, unfinished=True):
            batch = OpenBatch.stored(stored, run.stages[stored.stage])
            if stored.collected_at is not None:
                tasks.start_soon(self._delete_file, batch)
                continue
            self._funds.budget.adopt(await run.reader.reserved_for_batch(batch.id), stored.stage)
            self._tokens.add(batch.model, batch.tokens)
            status.batches += 1
            tasks.start_soon(self._carry, batch, None, ())
        # From here on the number is right.
        status.batches -= 1
        status.wake()

    # ── gathering ─────────────────────────────────────────────────────────────────────────────────────────

    async def _gather(self, tasks: TaskGroup) -> float | None:
        """Take in what waits, and send what is full or complete; returns when to come back."""
        now, wake_at = self._run.clock.now(), list[float]()
        self._return_unwanted()
        for name in self._queue.for_batches():
            self._take_in(name, now)
        for name, forming in list(self._forming.items()):
            due_at = self._due_at(forming, now)
            if due_at <= now:
                del self._forming[name]
                await self._send(forming, tasks)
                # Others wait behind it, or nothing more does, and the run may be over.
                wake_at.append(now)
            else:
                wake_at.append(due_at)
        if self._short_of_funds:
            self._halt_if_stuck()
            wake_at.append(now + _ATTENTION_S)
        return min(wake_at, default=None)

    def _take_in(self, name: tuple[str, str], now: float) -> None:
        stage, model = name
        waiting = self._queue.ready[QueueName(stage, model, Lane.BATCH)]
        forming = self._forming.get(name)
        if forming is None:
            forming = FormingBatch(self._run.stages[stage], model, now)
        self._short_of_funds = False
        while waiting and not forming.closed:
            size = line_size(waiting[0])
            if not has_room(forming.size, size, self._limits_of(model)):
                forming.closed = True
            elif not self._funds.budget.reserve(waiting[0].worst_case_pusd or 0, stage):
                forming.closed = self._short_of_funds = True
            else:
                forming.add(waiting.popleft(), size)
                self._queue.in_forming_batches += 1
        if forming.requests:
            self._forming[name] = forming
        else:
            forming.close()
        self._status.send_signal.set()

    def _limits_of(self, model: str) -> BatchLimits:
        limits = self._limits
        return BatchLimits(
            max_lines=limits.max_lines, max_bytes=limits.max_bytes, enqueued_tokens=self._tokens.limit(model)
        )

    def _due_at(self, forming: FormingBatch, now: float) -> float:
        """When a batch is sent: once it takes in nothing more, and the provider has room for it."""
        run, queue, status = self._run, self._queue, self._status
        if not forming.closed:
            next_due_at = queue.delayed_at if queue.all_read and not len(queue) else None
            due_at = closes_at(
                forming.size,
                first_at=forming.first_at,
                now=now,
                drained=queue.drained,
                next_due_at=next_due_at,
            )
            if due_at > now:
                return due_at
            forming.closed = True
        if status.waits_for_plan or (run.endpoints[0].resumed_polls.holds_sending and status.in_flight):
            return now + _ATTENTION_S
        if not self._tokens.has_room(forming.model, forming.size.tokens, now):
            return max(now + _ATTENTION_S, self._tokens.waits_until(forming.model))
        return now

    def _return_unwanted(self) -> None:
        """Requests of a stage that has taken another lane are made ready for that one."""
        for name, forming in list(self._forming.items()):
            if forming.stage.lane is not Lane.BATCH:
                del self._forming[name]
                self._give_back(forming)
                self._queue.read_again(forming.requests)

    def _give_back(self, forming: FormingBatch) -> None:
        forming.close()
        self._queue.in_forming_batches -= len(forming.requests)
        for prepared in forming.requests:
            self._funds.release(prepared.worst_case_pusd, prepared.request.stage)

    def _drop(self) -> None:
        """Nothing more is sent: what was taken in is pending on disk."""
        for forming in self._forming.values():
            self._give_back(forming)
        self._forming.clear()
        self._status.notify_if_done()

    def _halt_if_stuck(self) -> None:
        budget, status = self._funds.budget, self._status
        if status.in_flight or self._forming or budget.waits_for_others:
            return
        if budget.has_shares and status.may_get_rows:
            return
        whose = "" if budget.short_of == "run" else f" of the {budget.short_of}'s budget"
        message = f"the worst case of the next request is more than what is left{whose}"
        status.halt(Halted("budget", message, collect=True))

    # ── sending and following ─────────────────────────────────────────────────────────────────────────────

    async def _send(self, forming: FormingBatch, tasks: TaskGroup) -> None:
        claimed = await self._steps.send.claim(forming)
        self._queue.in_forming_batches -= len(forming.requests)
        for prepared in forming.requests:
            self._queue.forget(prepared)
        self._queue.read_again(claimed.over_caps)
        for prepared, others in claimed.asked_elsewhere:
            after = await self._steps.other_runs.follow(prepared, others)
            if isinstance(after, Returned):
                self._queue.read_again([prepared])
            else:
                self._router.route(after)
        forming.requests.clear()
        if claimed.batch is None:
            forming.close()
        else:
            self._tokens.add(forming.model, forming.size.tokens)
            self._status.batches += 1
            tasks.start_soon(self._carry, claimed.batch, forming, claimed.lines)
        self._status.send_signal.set()

    async def _carry(self, batch: OpenBatch, forming: FormingBatch | None, lines: Sequence[tuple[int, int]]) -> None:
        """One batch from its upload to its last line."""
        send = self._steps.send
        if forming is not None:
            try:
                sent = await send.send(batch, forming, lines)
            finally:
                forming.close()
                # A batch may be open for a day, and has no use for them.
                forming, lines = None, ()
        else:
            sent = batch.batch_id is not None or await send.resume(batch)
        if sent:
            await self._follow(batch)
        else:
            self._queue.put_off(self._run.clock.now())
        self._tokens.ended(batch.model, batch.tokens, taken=sent)
        self._status.batches -= 1
        self._status.send_signal.set()
        self._status.batch_signal.set()
        await self._delete_file(batch)
        self._status.notify_if_done()

    async def _follow(self, batch: OpenBatch) -> None:
        clock, collect = self._run.clock, self._steps.collect
        again_at: float | None = clock.now()
        while again_at is not None:
            while (now := clock.now()) < again_at and not collect.is_newly_unwanted(batch):
                await clock.sleep_until(min(again_at, now + _ATTENTION_S))
            if not self._status.may_poll:
                # It stays open at the provider; a later process collects it.
                await anyio.sleep_forever()
            again_at = await collect.advance(batch)

    async def _delete_file(self, batch: OpenBatch) -> None:
        """The provider needs the uploaded file no longer; if this fails, the next process tries again."""
        if batch.input_file is not None:
            await self._steps.collect.delete_file(batch)
