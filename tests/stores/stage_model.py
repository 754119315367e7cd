"""The reference model of stages: what each verb does to plain objects in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.core.model import NewRequest
from orchestrator.core.stage_rows import NewGroup, NewMember
from orchestrator.core.states import SETTLED, Event, State
from orchestrator.stores.pipeline_rows import (
    GroupMember,
    PartialGroups,
    PassedOn,
    ReadyGroup,
    ToPassOn,
    place_in_input,
)
from orchestrator.stores.writes import Requeue

__all__ = ["StageModel"]


class StageModel:
    """The half of the model that passes rows on; the other half holds the requests."""

    def __init__(
        self,
        requests_of: Callable[..., Sequence[Any]],
        add: Callable[..., Any],
        remove: Callable[[Any], object],
        settle: Callable[..., Any],
    ) -> None:
        self._stage_requests, self._add_request, self._remove, self._settle = requests_of, add, remove, settle
        self._sealed: defaultdict[int, set[str]] = defaultdict(set)

    def _named(self, run_id: int, stage: str, key: str) -> Any:
        return next((each for each in self._stage_requests(run_id) if (each.stage, each.key) == (stage, key)), None)

    def _request_of(self, request_id: int) -> Any:
        raise NotImplementedError

    def _add_groups(self, run_id: int, groups: Sequence[NewGroup]) -> int:
        added = 0
        for group in groups:
            if self._named(run_id, group.stage, group.key) is None:
                made = self._new_group(run_id, group)
                made.members = [self._named(run_id, group.of, key) for key in group.members]
                added += 1
        return added

    def _new_group(self, run_id: int, group: NewGroup | NewMember) -> Any:
        made = self._add_request(run_id, group, State.BLOCKED)
        made.level = 0
        return made

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────

    async def pass_on(self, run_id: int, passed: PassedOn) -> int:
        fresh = [each for each in passed.request_ids if self._request_of(each).passes_on]
        for each in fresh:
            request = self._request_of(each)
            request.passes_on, request.passed = False, True
        rows = [row for source, row in passed.rows if source in fresh]
        added = len(self._add_new(run_id, rows))
        added += self._add_groups(run_id, [group for source, group in passed.groups if source in fresh])
        for member in passed.members:
            if member.request_id in fresh:
                group = self._named(run_id, member.stage, member.key)
                if group is None:
                    group = self._new_group(run_id, member)
                    added += 1
                if self._request_of(member.request_id) not in group.members:
                    group.members.append(self._request_of(member.request_id))
        return added

    def _add_new(self, run_id: int, rows: Sequence[NewRequest]) -> list[Any]:
        new = [row for row in rows if self._named(run_id, row.stage, row.key) is None]
        return [self._add_request(run_id, row, State.PENDING) for row in new]

    async def fill_group(self, group_id: int, row: bytes, *, missing: int, at: float) -> bool:
        group = self._request_of(group_id)
        if group.state is not State.BLOCKED or not _is_ready(group):
            return False
        group.move(Event.UNBLOCK, row=row, not_before=at)
        group.rows_missing += missing
        group.position = _place(group)
        return True

    async def split_group(self, group: ReadyGroup, parts: Sequence[NewRequest], *, missing: int) -> int:
        split = self._request_of(group.request_id)
        if split.state is not State.BLOCKED or not _is_ready(split) or split.level != group.level:
            return 0
        split.level += 1
        split.rows_missing += missing
        split.position = _place(split)
        split.members = self._add_new(split.run.id, parts)
        return len(split.members)

    async def fail_group(self, group_id: int, code: str, message: str, at: float) -> bool:
        group = self._request_of(group_id)
        if group.state is not State.BLOCKED:
            return False
        group.move(Event.FAIL, code=code, message=message, settled_at=at)
        self._settle(group, Event.FAIL, at, None)
        return True

    async def drop_group(self, group_id: int) -> bool:
        self._remove(self._request_of(group_id))
        return True

    async def seal_stage(self, run_id: int, stage: str, *, source: str | None) -> bool:
        before = [each for each in self._stage_requests(run_id) if each.stage == source]
        if source is not None:
            waits = any(each.state not in SETTLED or each.passes_on for each in before)
            may_seal = source in self._sealed[run_id] and not waits
        else:
            may_seal = self._is_planned(run_id)
        if may_seal:
            self._sealed[run_id].add(stage)
        return may_seal

    def _is_planned(self, run_id: int) -> bool:
        raise NotImplementedError

    def _block_groups(self, requeue: Requeue) -> int:
        self._sealed[requeue.run_id].clear()
        broken = [
            each
            for each in self._stage_requests(requeue.run_id, *requeue.states)
            if each.level is not None and not each.tries
            if requeue.stage in (None, each.stage) or each.code == "group_incomplete"
        ]
        for each in broken:
            each.move(Event.BLOCK, attempts=0, code=None, message=None, settled_at=None, not_before=0.0)
        return len(broken)

    async def partial_groups(self, run_id: int) -> dict[str, PartialGroups]:
        groups = [each for each in self._stage_requests(run_id, State.SUCCEEDED) if each.level is not None]
        return {
            stage: PartialGroups(
                sum(each.rows_missing > 0 for each in groups if each.stage == stage),
                sum(_is_outdated(each) for each in groups if each.stage == stage),
            )
            for stage in {each.stage for each in groups}
        }

    # ── readers ───────────────────────────────────────────────────────────────────────────────────────────

    async def to_pass_on(self, run_id: int, *, limit: int) -> list[ToPassOn]:
        waiting = [each for each in self._stage_requests(run_id, *SETTLED) if each.passes_on]
        return [
            ToPassOn(
                request_id=each.id,
                key=each.key,
                stage=each.stage,
                position=each.position,
                where=each.where,
                row=each.row,
                answer=_answer(each),
            )
            for each in waiting[:limit]
        ]

    async def ready_groups(self, run_id: int, stage: str, *, limit: int) -> list[ReadyGroup]:
        blocked = [each for each in self._stage_requests(run_id, State.BLOCKED) if each.stage == stage]
        return [
            ReadyGroup(
                request_id=each.id,
                key=each.key,
                level=each.level,
                position=each.position,
                where=each.where,
                row=each.row,
            )
            for each in blocked
            if _is_ready(each)
        ][:limit]

    async def members(self, group_id: int) -> list[GroupMember]:
        found = sorted(self._request_of(group_id).members, key=lambda each: place_in_input(each.position, each.key))
        return [GroupMember(stage=each.stage, key=each.key, row=each.row, answer=_answer(each)) for each in found]

    async def lost_rows(self, run_id: int, stage: str, *, sources: Sequence[str]) -> int:
        failed = [
            each for each in self._stage_requests(run_id, State.FAILED, State.CANCELLED) if each.stage in sources
        ]
        groups = [each for each in self._stage_requests(run_id) if each.stage == stage]
        return sum(not any(each in group.members for group in groups) for each in failed)

    async def sealed_stages(self, run_id: int) -> set[str]:
        return set(self._sealed[run_id])

    async def stage_tally(self, run_id: int) -> dict[str, Counter[State]]:
        tally: dict[str, Counter[State]] = defaultdict(Counter)
        for each in self._stage_requests(run_id):
            tally[each.stage][each.state] += 1
        return dict(tally)


def _is_ready(group: Any) -> bool:
    return group.level is not None and all(each.state in SETTLED for each in group.members)


def _answer(request: Any) -> str | None:
    if request.state is not State.SUCCEEDED:
        return None
    attempt = request.answer or request.latest
    return (attempt.output_text if attempt is not None else None) or ""


def _is_outdated(group: Any) -> bool:
    asked_at = group.tries[0].sent_at if group.tries else group.settled_at
    return any(each.state is State.SUCCEEDED and each.settled_at > asked_at for each in group.members)


def _place(group: Any) -> int:
    places: list[int] = [group.position, *(each.position for each in group.members)]
    return min(places)
