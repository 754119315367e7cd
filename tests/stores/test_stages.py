"""What every store promises about rows that are passed on, groups, and the end of a stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.model import NewRequest
from orchestrator.core.stage_rows import NewGroup, NewMember
from orchestrator.core.states import State
from orchestrator.stores.pipeline_rows import PartialGroups, PassedOn, ReadyGroup
from orchestrator.stores.reads import PendingRequest
from orchestrator.stores.writes import Requeue

from .builders import NOW, Harness, a_row, mark

pytestmark = pytest.mark.anyio


def child(key: str, stage: str = "second", **more: Any) -> NewRequest:
    return NewRequest(key=key, position=0, where="rows:1", row=b'{"made": 1}', stage=stage, **more)


def a_group(*members: str, key: str = "group", **more: Any) -> NewGroup:
    return NewGroup(
        stage="groups", key=key, position=0, where="rows:1", row=b'{"shared": 1}', of="main", members=members, **more
    )


def a_member(request_id: int, key: str = "group") -> NewMember:
    return NewMember(request_id=request_id, stage="groups", key=key, position=0, where="rows:1", row=b"{}")


async def plan(harness: Harness, rows: int = 2, *, groups: tuple[NewGroup, ...] = ()) -> list[PendingRequest]:
    """Rows that are passed on, with groups that wait for some of them."""
    planned = [a_row(number, passes_on=True) for number in range(rows)]
    await harness.store.add_rows(harness.run.id, planned, [], mark(rows, complete=True), groups=groups)
    return await harness.fresh()


async def settle(harness: Harness, request: PendingRequest, to: State = State.SUCCEEDED, **more: Any) -> None:
    if to is State.FAILED:
        more |= {"code": "content_filter"}
    await harness.settle(request, await harness.submit(request), to, **more)


async def ready(harness: Harness) -> list[ReadyGroup]:
    return await harness.reader.ready_groups(harness.run.id, "groups", limit=10)


async def waiting(harness: Harness) -> list[str]:
    return [each.key for each in await harness.reader.to_pass_on(harness.run.id, limit=10)]


async def tally(harness: Harness) -> dict[str, dict[State, int]]:
    found = await harness.reader.stage_tally(harness.run.id)
    return {stage: {state: number for state, number in states.items() if number} for stage, states in found.items()}


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_row_waits_to_be_passed_on_from_when_it_is_settled(harness: Harness) -> None:
    first, second = await plan(harness)
    assert await waiting(harness) == []
    await settle(harness, second)
    assert await waiting(harness) == [second.key]
    await settle(harness, first, State.FAILED)
    answers = {each.key: each.answer for each in await harness.reader.to_pass_on(harness.run.id, limit=10)}
    assert answers[first.key] is None
    assert answers[second.key] is not None


async def test_rows_that_no_stage_reads_are_not_passed_on(harness: Harness) -> None:
    [row] = await harness.add(1)
    await settle(harness, row)
    assert await waiting(harness) == []


async def test_what_is_made_of_a_row_is_added_once(harness: Harness) -> None:
    first, _ = await plan(harness)
    await settle(harness, first)
    passed = PassedOn(request_ids=[first.id], rows=[(first.id, child("a")), (first.id, child("b"))])
    assert await harness.store.pass_on(harness.run.id, passed) == 2
    assert await harness.store.pass_on(harness.run.id, passed) == 0
    again = PassedOn(request_ids=[first.id], rows=[(first.id, child("c"))])
    assert await harness.store.pass_on(harness.run.id, again) == 0
    assert await waiting(harness) == []
    made = await harness.reader.fresh(harness.run.id, stage="second", after_id=0, limit=10)
    assert [(each.key, each.row) for each in made] == [("a", b'{"made": 1}'), ("b", b'{"made": 1}')]
    assert (await tally(harness))["second"] == {State.PENDING: 2}


async def test_rows_of_later_stages_are_cancelled_and_exported_with_the_others(harness: Harness) -> None:
    first, _ = await plan(harness)
    await settle(harness, first)
    await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[first.id], rows=[(first.id, child("a"))]))
    await harness.store.request_cancel(harness.run.id, NOW)
    assert (await tally(harness))["second"] == {State.CANCELLED: 1}
    records = [each.key async for each in harness.reader.results(harness.run.id, tuple(State))]
    assert records == ["row-0", "row-1", "a"]


async def test_a_row_that_is_tried_again_is_passed_on_again(harness: Harness) -> None:
    first, _ = await plan(harness)
    await settle(harness, first, State.FAILED)
    await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[first.id]))
    assert await waiting(harness) == []
    assert await harness.store.requeue(Requeue(run_id=harness.run.id, states=[State.FAILED], at=NOW)) == 1
    assert await waiting(harness) == []
    [again] = [each for each in await harness.fresh() if each.key == first.key]
    await settle(harness, again)
    assert await waiting(harness) == [first.key]


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_group_is_ready_when_its_last_member_is_settled(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    assert (await tally(harness))["groups"] == {State.BLOCKED: 1}
    await settle(harness, first)
    assert await ready(harness) == []
    await settle(harness, second, State.FAILED)
    [group] = await ready(harness)
    assert (group.key, group.level, group.row) == ("group", 0, b'{"shared": 1}')
    members = await harness.reader.members(group.request_id)
    assert [(each.key, each.answer is None) for each in members] == [("row-0", False), ("row-1", True)]


async def test_planning_again_adds_no_group(harness: Harness) -> None:
    group = a_group("row-0", "row-1")
    await plan(harness, groups=(group,))
    await plan(harness, groups=(group,))
    assert (await tally(harness)) == {"main": {State.PENDING: 2}, "groups": {State.BLOCKED: 1}}


async def test_a_ready_group_is_asked_with_its_row(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    [blocked] = [each for each in [await harness.reader.request(harness.run.id, "group", stage="groups")] if each]
    assert not await harness.store.fill_group(blocked.id, b"{}", missing=0, at=NOW)
    await settle(harness, first)
    await settle(harness, second)
    assert await harness.store.fill_group(blocked.id, b'{"rows": []}', missing=1, at=NOW)
    assert not await harness.store.fill_group(blocked.id, b"{}", missing=1, at=NOW)
    [asked] = await harness.delayed()
    assert (asked.key, asked.stage, asked.row) == ("group", "groups", b'{"rows": []}')
    assert (await tally(harness))["groups"] == {State.PENDING: 1}


async def test_members_join_the_group_of_their_key(harness: Harness) -> None:
    first, second = await plan(harness)
    await settle(harness, first)
    await settle(harness, second)
    members = [a_member(first.id), a_member(second.id, key="other")]
    passed = PassedOn(request_ids=[first.id, second.id], members=members)
    assert await harness.store.pass_on(harness.run.id, passed) == 2
    assert await harness.store.pass_on(harness.run.id, passed) == 0
    assert [group.key for group in await ready(harness)] == ["group", "other"]


async def test_a_group_in_parts_waits_for_them(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    await settle(harness, first)
    await settle(harness, second)
    [group] = await ready(harness)
    parts = [child(f"group/0.{number}", "groups") for number in range(2)]
    assert await harness.store.split_group(group, parts, missing=0) == 2
    assert await harness.store.split_group(group, parts, missing=0) == 0
    assert await ready(harness) == []
    for part in await harness.reader.fresh(harness.run.id, stage="groups", after_id=0, limit=10):
        await settle(harness, part)
    [again] = await ready(harness)
    assert again.level == 1
    assert [each.key for each in await harness.reader.members(again.request_id)] == ["group/0.0", "group/0.1"]


async def test_a_group_without_rows_is_dropped(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    await settle(harness, first)
    await settle(harness, second)
    [group] = await ready(harness)
    assert await harness.store.drop_group(group.request_id)
    assert await ready(harness) == []
    assert "groups" not in {stage for stage, states in (await tally(harness)).items() if states}


async def test_a_failed_group_waits_again_if_its_rows_are_tried_again(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    await settle(harness, first, State.FAILED)
    await settle(harness, second)
    [group] = await ready(harness)
    assert await harness.store.fail_group(group.request_id, "group_incomplete", "1 of 2 rows are missing", NOW)
    assert not await harness.store.fail_group(group.request_id, "group_incomplete", "", NOW)
    assert await harness.store.requeue(Requeue(run_id=harness.run.id, states=[State.FAILED], at=NOW)) == 2
    assert await ready(harness) == []
    assert (await tally(harness))["groups"] == {State.BLOCKED: 1}
    [again] = [each for each in await harness.fresh() if each.key == "row-0"]
    await settle(harness, again)
    assert [each.key for each in await ready(harness)] == ["group"]


async def test_the_rows_of_a_group_are_in_the_order_of_the_input(harness: Harness) -> None:
    planned = [
        replace(a_row(position, passes_on=True), key=key)
        for position, key in ((1, "b#10"), (1, "b#2"), (0, "c"), (1, "b#2#1"), (1, "b#1"))
    ]
    await harness.store.add_rows(harness.run.id, planned, [], mark(2, complete=True))
    requests = await harness.fresh()
    for each in requests:
        await settle(harness, each)
    members = [a_member(each.id) for each in requests]
    await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[each.id for each in requests], members=members))
    [group] = await ready(harness)
    found = await harness.reader.members(group.request_id)
    assert [each.key for each in found] == ["c", "b#1", "b#2", "b#2#1", "b#10"]


async def test_rows_in_no_group_are_counted(harness: Harness) -> None:
    first, second = await plan(harness)
    await settle(harness, first, State.FAILED)
    await settle(harness, second, State.FAILED)
    await harness.store.pass_on(
        harness.run.id, PassedOn(request_ids=[first.id, second.id], members=[a_member(first.id)])
    )
    assert await harness.reader.lost_rows(harness.run.id, "groups", sources=["main"]) == 1


# ── the end of a stage ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_first_stage_is_sealed_when_the_input_was_read(harness: Harness) -> None:
    await harness.add(1)
    assert not await harness.store.seal_stage(harness.run.id, "main", source=None)
    await harness.store.add_rows(harness.run.id, [], [], mark(1, complete=True))
    assert await harness.store.seal_stage(harness.run.id, "main", source=None)
    assert await harness.reader.sealed_stages(harness.run.id) == {"main"}


async def test_a_later_stage_is_sealed_when_all_before_it_is_settled_and_passed_on(harness: Harness) -> None:
    first, second = await plan(harness)
    assert not await harness.store.seal_stage(harness.run.id, "second", source="main")
    await harness.store.seal_stage(harness.run.id, "main", source=None)
    await settle(harness, first)
    assert not await harness.store.seal_stage(harness.run.id, "second", source="main")
    await settle(harness, second)
    assert not await harness.store.seal_stage(harness.run.id, "second", source="main")
    await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[first.id, second.id]))
    assert await harness.store.seal_stage(harness.run.id, "second", source="main")
    await harness.store.requeue(Requeue(run_id=harness.run.id, states=[State.FAILED], at=NOW))
    assert await harness.reader.sealed_stages(harness.run.id) == set()


# ── retries of one stage, and groups that lack rows ───────────────────────────────────────────────────────────


async def partly_failed(harness: Harness) -> tuple[PendingRequest, PendingRequest, ReadyGroup]:
    """Two rows of which the second failed, and the group that waits for neither of them any more."""
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    await settle(harness, first)
    await settle(harness, second, State.FAILED)
    [group] = await ready(harness)
    return first, second, group


async def test_a_retry_of_one_stage_leaves_the_others_and_lets_broken_groups_wait(harness: Harness) -> None:
    _, _, group = await partly_failed(harness)
    await harness.store.fail_group(group.request_id, "group_incomplete", "1 of 2 rows are missing", NOW)
    other = Requeue(run_id=harness.run.id, states=[State.FAILED], stage="second", at=NOW)
    assert await harness.store.requeue(replace(other, stage="main")) == 2
    states = await tally(harness)
    assert states["main"] == {State.SUCCEEDED: 1, State.PENDING: 1}
    assert states["groups"] == {State.BLOCKED: 1}
    assert await ready(harness) == []


async def test_a_retry_of_a_stage_without_failures_changes_no_request(harness: Harness) -> None:
    _, _, group = await partly_failed(harness)
    await harness.store.fail_group(group.request_id, "row_too_large", "a row is too large", NOW)
    chosen = Requeue(run_id=harness.run.id, states=[State.FAILED], stage="second", at=NOW)
    assert await harness.store.requeue(chosen) == 0
    assert (await tally(harness))["main"] == {State.SUCCEEDED: 1, State.FAILED: 1}
    assert await harness.store.requeue(replace(chosen, stage="groups")) == 1
    assert await tally(harness) == {
        "main": {State.SUCCEEDED: 1, State.FAILED: 1},
        "groups": {State.BLOCKED: 1},
    }


async def test_a_group_that_was_answered_without_a_row_is_outdated_once_the_row_is_there(harness: Harness) -> None:
    _, second, group = await partly_failed(harness)
    assert await harness.store.fill_group(group.request_id, b"{}", missing=1, at=NOW)
    [asked] = await harness.reader.delayed(harness.run.id, limit=10)
    await harness.settle(asked, await harness.submit(asked, at=NOW + 50), State.SUCCEEDED, at=NOW + 60)
    assert await harness.reader.partial_groups(harness.run.id) == {"groups": PartialGroups(1, 0)}
    retried = Requeue(run_id=harness.run.id, states=[State.FAILED], stage="main", at=NOW)
    assert await harness.store.requeue(retried) == 1
    [again] = await harness.fresh()
    assert again.key == second.key
    await settle(harness, again, at=NOW + 100)
    assert await harness.reader.partial_groups(harness.run.id) == {"groups": PartialGroups(1, 1)}


async def test_whole_groups_are_neither_partial_nor_outdated(harness: Harness) -> None:
    first, second = await plan(harness, groups=(a_group("row-0", "row-1"),))
    assert await harness.reader.partial_groups(harness.run.id) == {}
    await settle(harness, first)
    await settle(harness, second)
    [group] = await ready(harness)
    assert await harness.store.fill_group(group.request_id, b"{}", missing=0, at=NOW)
    [asked] = await harness.reader.delayed(harness.run.id, limit=10)
    await harness.settle(asked, await harness.submit(asked, at=NOW + 50), State.SUCCEEDED, at=NOW + 60)
    assert await harness.reader.partial_groups(harness.run.id) == {"groups": PartialGroups(0, 0)}


async def test_the_results_of_stages_are_in_the_order_of_the_input(harness: Harness) -> None:
    first, second = await plan(harness)
    await settle(harness, second)
    await settle(harness, first)
    made = {1: ["row-1#10", "row-1#2", "row-1#1"], 0: ["row-0#2", "row-0#1"]}
    for position, request in ((1, second), (0, first)):
        children = [(request.id, replace(child(key), position=position)) for key in made[position]]
        await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[request.id], rows=children))
    wanted = {"second": [State.PENDING], "main": [State.FAILED]}
    found = [each.key async for each in harness.reader.stage_results(harness.run.id, wanted)]
    assert found == ["row-0#1", "row-0#2", "row-1#1", "row-1#2", "row-1#10"]
    both = {"second": [State.PENDING], "main": [State.SUCCEEDED]}
    mixed = [each.key async for each in harness.reader.stage_results(harness.run.id, both)]
    assert mixed == ["row-0", "row-0#1", "row-0#2", "row-1", "row-1#1", "row-1#2", "row-1#10"]


async def test_a_group_has_the_place_of_its_first_row(harness: Harness) -> None:
    first, second = await plan(harness)
    for each in (second, first):
        await settle(harness, each)
        member = replace(a_member(each.id), position=int(each.key[-1]))
        await harness.store.pass_on(harness.run.id, PassedOn(request_ids=[each.id], members=[member]))
    [group] = await ready(harness)
    assert group.position == 1, "that of the row that came first"
    assert await harness.store.fill_group(group.request_id, b"{}", missing=0, at=NOW)
    [filled] = [each async for each in harness.reader.stage_results(harness.run.id, {"groups": [State.PENDING]})]
    assert (filled.key, filled.is_group, filled.rows_missing) == ("group", True, 0)


async def test_the_texts_of_answers_are_read_by_their_attempts(harness: Harness) -> None:
    first, second = await plan(harness)
    answered, failed = await harness.submit(first), await harness.submit(second)
    await harness.settle(first, answered, State.SUCCEEDED)
    await harness.settle(second, failed, State.FAILED, code="content_filter")
    texts = await harness.reader.answers([answered, failed])
    [result] = [each async for each in harness.reader.results(harness.run.id, [State.SUCCEEDED])]
    assert texts == {answered: result.output_text}
    assert await harness.reader.answers([]) == {}
