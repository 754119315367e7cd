"""The store on SQL databases: each verb is passed to the one writer."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from orchestrator.core.model import Charge, NewRequest, PlanMark, SkippedRow
from orchestrator.core.money import Picodollars
from orchestrator.core.stage_rows import NewGroup
from orchestrator.core.states import RunState
from orchestrator.stores.notices import NewNotice
from orchestrator.stores.reads import Dependent, Duplicate, OpenAttempt, OtherRequest, Run, Spending, ToolCall
from orchestrator.stores.sql import adoption, bulk_updates, dependents, removal, write_operations
from orchestrator.stores.sql.datasets import SqlDatasetStore
from orchestrator.stores.sql.flag_store import SqlFlagStore
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.notices import SqlNoticeStore
from orchestrator.stores.sql.provider_batches import SqlBatchStore
from orchestrator.stores.sql.retained import SqlRetentionStore
from orchestrator.stores.sql.stage_store import SqlStageStore, block_groups, recount
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload
from orchestrator.stores.writes import Acceptance, Adoption, Claim, Counts, Ending, Leaving, NewRun, Release, Requeue

__all__ = ["SqlStore"]


class SqlStore(SqlRetentionStore, SqlDatasetStore, SqlNoticeStore, SqlStageStore, SqlBatchStore, SqlFlagStore):
    """The verbs, for a driver that opens a writer; see ``stores.base.Store`` for what they promise."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────────────

    async def create_run(self, run: NewRun) -> Run:
        run_id = await self._writer.write(write_operations.create_run, run)
        return Run(
            id=run_id,
            name=run.name,
            uid=run.uid,
            job=run.job,
            spec_json=run.spec_json,
            fingerprint=run.fingerprint,
            input_identity=run.input_identity,
            state=RunState.ACTIVE,
            reason=None,
            budget_pusd=run.budget_pusd,
            deadline_at=run.deadline_at,
            created_at=run.created_at,
            ended_at=None,
            cancel_requested=False,
            plan=PlanMark(position=0, complete=False),
            simulated=run.simulated,
            day=run.day,
        )

    async def set_run_state(
        self,
        run_id: int,
        state: RunState,
        reason: str | None,
        at: float,
        *,
        notices: Sequence[NewNotice] = (),
        resume_at: float | None = None,
    ) -> None:
        await self._writer.write(write_operations.set_run_state, run_id, state, reason, at, notices, resume_at)

    async def adapt_run(
        self, run_id: int, *, budget_pusd: Picodollars | None, deadline_at: float | None, input_identity: str
    ) -> None:
        await self._writer.write(write_operations.adapt_run, run_id, budget_pusd, deadline_at, input_identity)

    async def keep_spec(self, run_id: int, spec_json: str, *, reopen_plan: bool) -> None:
        await self._writer.write(write_operations.keep_spec, run_id, spec_json, reopen_plan)

    async def replace_run(self, run_id: int, run: NewRun) -> bool:
        if not await self._writer.write(removal.begin_again, run_id):
            return False
        bounds = await self._writer.write(bulk_updates.request_bounds, run_id)
        for ids in bulk_updates.id_ranges(bounds):
            await self._writer.write(removal.clear_range, run_id, ids)
        await self._writer.write(removal.replace_run, run_id, run)
        return True

    async def remove_run(self, run_id: int, *, names: Sequence[str] = ()) -> None:
        bounds = await self._writer.write(bulk_updates.request_bounds, run_id)
        if bounds is not None:
            await self._writer.write(removal.disown, run_id, bounds)
        for ids in bulk_updates.id_ranges(bounds):
            await self._writer.write(removal.remove_range, run_id, ids)
        await self._writer.write(removal.remove_run, run_id, names)

    async def request_cancel(self, run_id: int, at: float) -> None:
        bounds = await self._writer.write(bulk_updates.flag_cancel, run_id)
        for ids in bulk_updates.id_ranges(bounds):
            await self._writer.write(bulk_updates.cancel_range, run_id, ids, at)
        await self._writer.write(recount, run_id)

    async def requeue(self, requeue: Requeue) -> int:
        bounds = await self._writer.write(bulk_updates.request_bounds, requeue.run_id)
        moved = 0
        for ids in bulk_updates.id_ranges(bounds):
            moved += await self._writer.write(bulk_updates.requeue_range, requeue, ids)
        if moved or (requeue.code is None and requeue.flag is None):
            moved += await self._writer.write(block_groups, requeue)
        return moved + (await self._writer.write(bulk_updates.block_again, requeue.run_id) if moved else 0)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────

    async def add_rows(
        self,
        run_id: int,
        rows: Sequence[NewRequest],
        skipped: Sequence[SkippedRow],
        mark: PlanMark,
        *,
        skip_taken: bool = False,
        groups: Sequence[NewGroup] = (),
    ) -> list[NewRequest]:
        return await self._writer.write(write_operations.add_rows, run_id, rows, skipped, mark, skip_taken, groups)

    # These three run for every row, so they return the writer's own future: a coroutine around it would cost CPU.

    def claim(self, claim: Claim) -> Awaitable[int | Spending | Duplicate | list[OtherRequest] | None]:
        return self._writer.write(write_operations.claim, claim)

    def accept(self, acceptance: Acceptance) -> Awaitable[bool]:
        return self._writer.write(write_operations.accept, acceptance)

    def end(self, ending: Ending) -> Awaitable[list[Dependent] | None]:
        return self._writer.write(write_operations.end, ending)

    async def release(self, release: Release) -> bool:
        return await self._writer.write(write_operations.release, release)

    async def name_response(self, attempt_id: int, response_id: str) -> bool:
        return await self._writer.write(write_operations.name_response, attempt_id, response_id)

    async def late_charge(self, attempt_id: int, charge: Charge, status: str, body: bytes | None) -> bool:
        return await self._writer.write(write_operations.late_charge, attempt_id, charge, status, body)

    async def fail_pending(self, request_id: int, code: str, message: str, at: float) -> list[Dependent] | None:
        return await self._writer.write(write_operations.fail_pending, request_id, code, message, at)

    async def cancel_unsent(self, request_id: int, at: float) -> list[Dependent] | None:
        return await self._writer.write(write_operations.cancel_unsent, request_id, at)

    # ── turns, chains, duplicates ─────────────────────────────────────────────────────────────────────────

    async def leave(self, leaving: Leaving) -> list[Dependent] | None:
        return await self._writer.write(dependents.leave, leaving)

    async def add_tool_call(self, call: ToolCall) -> None:
        await self._writer.write(dependents.add_tool_call, call)

    async def join(
        self, request_id: int, original: Duplicate, fingerprint: bytes, at: float
    ) -> list[Dependent] | None:
        return await self._writer.write(dependents.join, request_id, original, fingerprint, at)

    async def adopt(self, given: Adoption) -> OpenAttempt | None:
        return await self._writer.write(adoption.adopt, given)

    async def end_wait(self, request_id: int, at: float, *, is_over: bool) -> list[Dependent] | None:
        return await self._writer.write(adoption.end_wait, request_id, at, is_over)

    async def link_chains(self, run_id: int, at: float) -> int:
        return await self._writer.write(dependents.link_chains, run_id, at)

    async def keep_conversation(
        self, run_id: int, chain: str, conversation_id: str, endpoint: str | None = None
    ) -> None:
        await self._writer.write(dependents.keep_conversation, run_id, chain, conversation_id, endpoint)

    # ── uploads and stream events ─────────────────────────────────────────────────────────────────────────

    async def add_upload(self, upload: Upload, run_id: int) -> None:
        await self._writer.write(write_operations.add_upload, upload, run_id)

    async def use_upload(self, file_id: str, run_id: int) -> None:
        await self._writer.write(write_operations.use_upload, file_id, run_id)

    async def add_progress(self, attempt_id: int, events: Sequence[ProgressEvent]) -> None:
        await self._writer.write(write_operations.add_progress, attempt_id, events)

    # ── notes ─────────────────────────────────────────────────────────────────────────────────────────────

    async def note_status(self, attempt_id: int, status: str) -> None:
        self._writer.note(("status", attempt_id), write_operations.note_status, attempt_id, status)

    async def add_counts(self, run_id: int, counts: Counts) -> None:
        key = ("counts", run_id)
        waiting = self._writer.noted(key)
        if waiting is not None:
            earlier: Counts = waiting[1]
            counts = Counts(
                polls=earlier.polls + counts.polls,
                rate_limited=earlier.rate_limited + counts.rate_limited,
                elapsed_s=earlier.elapsed_s + counts.elapsed_s,
            )
        self._writer.note(key, write_operations.add_counts, run_id, counts)

    async def remember(self, name: str, value: bytes) -> None:
        await self._writer.write(write_operations.remember, name, value)
