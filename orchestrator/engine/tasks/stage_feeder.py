"""Makes rows of later stages from settled ones, asks groups that are complete, and seals stages."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import orjson
from anyio import create_task_group, to_thread

from orchestrator.core.model import NewRequest
from orchestrator.core.states import Event, State, first_state
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.job.stages.expansion import Made, Pipeline, SettledRow
from orchestrator.job.stages.groups import Ask, Drop, FailGroup, Group, GroupOutcome, Split, complete
from orchestrator.job.stages.pipeline import INPUT, StagePlan, stages_lost_from
from orchestrator.job.stages.planned_rows import member_of, new_groups, new_requests
from orchestrator.stores.pipeline_rows import GroupMember, PassedOn, ReadyGroup, ToPassOn

__all__ = ["StageFeeder"]

_ROWS_AT_ONCE = 256
_GATHER_S = 0.1
_GROUPS_AT_ONCE = 64
# Groups that are asked together share a commit: more of them while they have few rows, because all are in memory.
_FEWEST_TOGETHER, _MOST_TOGETHER = 4, 32
_FEW_ROWS_TOGETHER = 2_000
# What is made of these takes less time than a thread needs to begin.
_FEW_MEMBERS = 20


class StageFeeder:
    """Holds nothing that matters: what is left is read from the store, and done in one transaction each."""

    def __init__(self, run: RunContext, pipeline: Pipeline, queue: SendQueue) -> None:
        self._run = run
        self._status = run.status
        self._pipeline = pipeline
        self._queue = queue
        # To which no further row comes; some of their groups may still wait for rows of the stage before.
        self._sealed: set[str] = set()
        self._status.feeder_waits = False
        # How many failed rows may belong to any group of a stage; constant once it is sealed.
        self._lost: dict[str, int] = {}
        # How many groups are asked together, and how many rows those that were asked last had.
        self._together, self._rows_together = _FEWEST_TOGETHER, 0

    async def run(self) -> None:
        """Work until every stage is sealed, or until cancelled."""
        self._sealed = await self._run.reader.sealed_stages(self._run.record.id)
        while self._status.may_send and self._status.unsealed_stages:
            passed = await self._pass_on()
            moved = passed + await self._ask_groups()
            moved += 0 if passed else await self._seal()
            if not moved and not await self._is_stuck():
                self._status.feeder_waits = True
                # A stage without money may have waited for rows of one that has some set apart.
                self._status.send_signal.set()
                await self._run.clock.wait(self._status.feed_signal, None)
                self._status.feeder_waits = False
            if passed < _ROWS_AT_ONCE:
                await self._gather()
        self._status.feeder_waits = True
        self._status.send_signal.set()

    async def _gather(self) -> None:
        """While more is on its way, let some of it come: each round has a fixed cost, whatever it passes on."""
        if self._status.in_flight:
            await self._run.clock.sleep_until(self._run.clock.now() + _GATHER_S)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _pass_on(self) -> int:
        run = self._run
        settled = await run.reader.to_pass_on(run.record.id, limit=_ROWS_AT_ONCE)
        if not settled:
            return 0
        passed = await to_thread.run_sync(self._passed_on, settled)
        added = await run.store.pass_on(run.record.id, passed)
        self._count(first_state(in_chain=False), len(passed.rows))
        # A group is made by the first of its rows, and only the store knows which that is.
        self._count(first_state(in_chain=True), added - len(passed.rows))
        if passed.rows:
            self._status.added({row.stage for _, row in passed.rows})
        return len(settled)

    def _passed_on(self, settled: Sequence[ToPassOn]) -> PassedOn:
        made = [(each, self._made(each)) for each in settled]
        pipeline = self._pipeline
        return PassedOn(
            request_ids=[each.request_id for each in settled],
            rows=[
                (each.request_id, row)
                for each, some in made
                for row in new_requests(pipeline, some.rows, position=each.position, where=each.where)
            ],
            groups=[
                (each.request_id, group)
                for each, some in made
                for group in new_groups(pipeline, some, position=each.position, where=each.where)
            ],
            members=[
                member
                for each, some in made
                for member in member_of(pipeline, each.request_id, some, position=each.position, where=each.where)
            ],
        )

    def _made(self, settled: ToPassOn) -> Made:
        row = SettledRow(settled.key, orjson.loads(settled.row), settled.answer)
        return self._pipeline.of_settled(settled.stage, row)

    def _count(self, state: State, requests: int) -> None:
        progress = self._run.observation.progress
        progress.planned += requests
        progress.requests[state] += requests

    # ── groups ────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_groups(self) -> int:
        asked = 0
        for plan in self._pipeline.requesting:
            if plan.section.group_by is None or not self._status.asks(plan.name):
                continue
            if not plan.by_parent_at_once and plan.name not in self._sealed:
                continue
            asked += await self._ask_groups_of(plan)
        return asked

    async def _ask_groups_of(self, plan: StagePlan) -> int:
        run = self._run
        groups = await run.reader.ready_groups(run.record.id, plan.name, limit=_GROUPS_AT_ONCE)
        if not groups:
            return 0
        lost = await self._lost_before(plan)
        left = deque(groups)
        while left:
            self._rows_together = 0
            async with create_task_group() as tasks:
                for _ in range(min(self._together, len(left))):
                    tasks.start_soon(self._ask_group, plan, left.popleft(), lost)
            few = 2 * self._rows_together <= _FEW_ROWS_TOGETHER
            self._together = min(2 * self._together, _MOST_TOGETHER) if few else _FEWEST_TOGETHER
        return len(groups)

    async def _lost_before(self, plan: StagePlan) -> int:
        if plan.name not in self._lost:
            run, sources = self._run, stages_lost_from(self._pipeline.plans, plan)
            lost = await run.reader.lost_rows(run.record.id, plan.name, sources=sources) if sources else 0
            self._lost[plan.name] = lost
        return self._lost[plan.name]

    async def _ask_group(self, plan: StagePlan, ready: ReadyGroup, lost: int) -> None:
        store, now = self._run.store, self._run.clock.now()
        found = await self._run.reader.members(ready.request_id)
        # Of a row of an earlier stage that succeeded after all, what was made of it is a member.
        members = [each for each in found if each.answer is None or each.stage in (plan.name, plan.section.from_)]
        self._rows_together += len(members)
        lost = 0 if ready.level else lost
        if len(members) > _FEW_MEMBERS:
            outcome = await to_thread.run_sync(self._outcome, plan, ready, members, lost)
        else:
            outcome = self._outcome(plan, ready, members, lost)
        match outcome:
            case Ask(row, missing):
                if await store.fill_group(ready.request_id, orjson.dumps(row), missing=missing, at=now):
                    self._run.observation.moved(State.BLOCKED, Event.UNBLOCK)
                    self._queue.put_off(now)
            case Split(rows, missing):
                parts = [
                    NewRequest(
                        key=key, position=ready.position, where=ready.where, row=orjson.dumps(row), stage=plan.name
                    )
                    for key, row in rows
                ]
                self._count(first_state(in_chain=False), await store.split_group(ready, parts, missing=missing))
                self._status.added([plan.name])
            case FailGroup(code, message):
                if await store.fail_group(ready.request_id, code, message, now):
                    failed = self._run.observation.moved(State.BLOCKED, Event.FAIL)
                    self._run.observation.settled_unsent(ready.key, failed, code)
            case Drop():
                if await store.drop_group(ready.request_id):
                    self._count(State.BLOCKED, -1)

    def _outcome(self, plan: StagePlan, ready: ReadyGroup, members: Sequence[GroupMember], lost: int) -> GroupOutcome:
        return complete(
            self._pipeline,
            Group(
                stage=plan.name,
                key=ready.key,
                row=orjson.loads(ready.row),
                members=[SettledRow(each.key, orjson.loads(each.row), each.answer) for each in members],
                level=ready.level,
                lost=lost,
            ),
        )

    # ── the end of a stage ────────────────────────────────────────────────────────────────────────────────

    async def _seal(self) -> int:
        run, done = self._run, 0
        for plan in self._pipeline.requesting:
            if not self._status.asks(plan.name):
                continue
            if plan.name not in self._sealed:
                source = None if plan.source == INPUT else plan.source
                if not await run.store.seal_stage(run.record.id, plan.name, source=source):
                    continue
                self._sealed.add(plan.name)
                done += 1
            if plan.name in self._status.unsealed_stages and not await self._has_groups(plan):
                self._status.seal(plan.name)
                done += 1
        return done

    async def _has_groups(self, plan: StagePlan) -> bool:
        """Whether a group of a stage still waits; it may be asked in parts, which are rows of the stage."""
        if plan.section.group_by is None:
            return False
        tally = await self._run.reader.stage_tally(self._run.record.id)
        return tally.get(plan.name, Counter())[State.BLOCKED] > 0

    async def _is_stuck(self) -> bool:
        """Whether all that is left waits for requests that are held in doubt; then the run ends with them."""
        status = self._status
        if not status.held or status.in_flight or not self._run.observation.progress.planning_done:
            return False
        tally = await self._run.reader.stage_tally(self._run.record.id)
        if any(states[State.PENDING] for states in tally.values()):
            return False
        for stage in list(status.unsealed_stages):
            status.seal(stage)
        return True
