"""What every store promises about retention, uploads and the progress of streams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import Dependent, Duplicate
from orchestrator.stores.retained import ObjectKind, ProviderObject
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload

from .builders import NOW, Desk, a_run

pytestmark = pytest.mark.anyio

ALL = {"ended_before": float("inf"), "after": 0, "limit": 100}
UPLOAD = Upload(file_id="file-1", provider="p", sha256=b"x" * 32, name="a.pdf", bytes=7, uploaded_at=NOW)


async def copies_of(desk: Desk, kind: ObjectKind = ObjectKind.RESPONSE, **chosen: float) -> list[str]:
    found = await desk.reader.provider_objects(desk.run.id, kind, **{**ALL, **chosen})  # type: ignore[arg-type]
    return [copy.provider_id for copy in found]


async def test_a_run_that_was_never_worked_on_retains_nothing(desk: Desk) -> None:
    assert await desk.reader.retained(desk.run.id) is None
    await desk.store.note_export(desk.run.id, NOW)
    assert await desk.reader.retained(desk.run.id) is None


async def test_the_latest_policy_counts_and_the_export_is_kept(desk: Desk) -> None:
    await desk.store.keep_policy(desk.run.id, "sandbox", "{}")
    await desk.store.note_export(desk.run.id, NOW)
    await desk.store.keep_policy(desk.run.id, "sandbox", '{"inputs": "drop"}')
    retained = await desk.reader.retained(desk.run.id)
    assert retained is not None
    assert (retained.policy, retained.exported_at, retained.deleted) == ('{"inputs": "drop"}', NOW, {})


async def test_copies_are_those_of_ended_responses_that_are_not_known_to_be_gone(desk: Desk) -> None:
    _, open_, *done = await desk.add(5)
    await desk.submit(open_)
    attempts = [await desk.succeed(each) for each in done]
    found = await copies_of(desk)
    assert found == [f"resp_{attempt_id}" for attempt_id in attempts]
    assert await copies_of(desk, limit=2) == found[:2]
    assert await copies_of(desk, ended_before=NOW + 9) == []
    first = (await desk.reader.provider_objects(desk.run.id, ObjectKind.RESPONSE, **ALL))[0]  # type: ignore[arg-type]
    assert await copies_of(desk, after=first.place) == found[1:]
    await desk.store.note_deleted(desk.run.id, first, was_there=True, at=NOW)
    assert await copies_of(desk) == found[1:]


async def test_deletions_are_counted_once_and_by_kind(desk: Desk) -> None:
    await desk.store.keep_policy(desk.run.id, "sandbox", "{}")
    copies = [
        ProviderObject(ObjectKind.RESPONSE, "resp_1"),
        ProviderObject(ObjectKind.RESPONSE, "resp_2"),
        ProviderObject(ObjectKind.FILE, "file-1"),
    ]
    for copy in (*copies, copies[0]):
        await desk.store.note_deleted(desk.run.id, copy, was_there=copy.provider_id != "resp_2", at=NOW)
    retained = await desk.reader.retained(desk.run.id)
    assert retained is not None
    assert (retained.deleted, retained.unknown) == ({ObjectKind.RESPONSE: 2, ObjectKind.FILE: 1}, 1)


async def test_conversations_are_copies_too(desk: Desk) -> None:
    await desk.store.keep_conversation(desk.run.id, "a", "conv_1")
    assert await copies_of(desk, ObjectKind.CONVERSATION) == ["conv_1"]
    await desk.store.note_deleted(
        desk.run.id, ProviderObject(ObjectKind.CONVERSATION, "conv_1"), was_there=True, at=NOW
    )
    assert await copies_of(desk, ObjectKind.CONVERSATION) == []


async def test_only_settled_rows_lose_their_data(desk: Desk) -> None:
    await desk.store.keep_policy(desk.run.id, "sandbox", "{}")
    open_, failed = await desk.add(2)
    await desk.end(failed, await desk.submit(failed), State.FAILED, code="refusal")
    await desk.store.drop(desk.run.id, inputs=True, outputs=False)
    await desk.store.drop(desk.run.id, inputs=True, outputs=False)
    kept, dropped = [await desk.reader.request(desk.run.id, each.key) for each in (open_, failed)]
    assert kept is not None
    assert dropped is not None
    assert kept.row != b""
    assert dropped.row == b""
    retained = await desk.reader.retained(desk.run.id)
    assert retained is not None
    assert (retained.inputs_dropped, retained.outputs_dropped) == (1, 0)
    assert await desk.reader.without_data(desk.run.id, [State.FAILED], None) == 1
    assert await desk.reader.without_data(desk.run.id, [State.FAILED], "no_such_code") == 0
    assert await desk.reader.without_data(desk.run.id, [State.CANCELLED], None) == 0


async def test_an_answer_that_another_run_shares_stays(desk: Desk) -> None:
    await desk.store.keep_policy(desk.run.id, "sandbox", "{}")
    shared, own = await desk.add(2)
    for each in (shared, own):
        await desk.succeed(each)
    other = replace(desk, run=await desk.store.create_run(a_run("other")))
    [asked] = await other.add(1)
    moved = await desk.store.join(asked.id, Duplicate(shared.id, here=False), b"f", NOW)
    assert moved == Dependent(asked.key, State.SUCCEEDED)
    await desk.store.drop(desk.run.id, inputs=False, outputs=True)
    [kept], [gone] = [await desk.reader.attempts(each.id) for each in (shared, own)]
    assert kept.output_text is not None
    assert (gone.output_text, gone.body) == (None, None)
    assert gone.charge is not None


async def test_a_file_is_found_by_its_content_until_it_is_deleted(desk: Desk) -> None:
    await desk.store.add_upload(UPLOAD, desk.run.id)
    assert await desk.reader.upload("p", UPLOAD.sha256) == UPLOAD
    assert await desk.reader.upload("elsewhere", UPLOAD.sha256) is None
    await desk.store.note_deleted(desk.run.id, ProviderObject(ObjectKind.FILE, "file-1"), was_there=True, at=NOW)
    assert await desk.reader.upload("p", UPLOAD.sha256) is None


async def test_a_file_goes_with_the_last_run_that_needs_it(desk: Desk) -> None:
    await desk.store.add_upload(UPLOAD, desk.run.id)
    other = await desk.store.create_run(a_run("other"))
    await desk.store.use_upload("file-1", other.id)
    await desk.store.use_upload("file-1", other.id)
    assert await copies_of(desk, ObjectKind.FILE) == []
    await desk.store.set_run_state(other.id, RunState.FINISHED, None, NOW)
    assert await copies_of(desk, ObjectKind.FILE) == ["file-1"]


async def test_progress_is_kept_once_in_its_order(desk: Desk) -> None:
    [request] = await desk.add(1)
    attempt_id = await desk.submit(request)
    events = [
        ProgressEvent(sequence=number, type=f"response.{word}", item=None, at=NOW + number)
        for number, word in enumerate(("created", "queued", "in_progress"))
    ]
    assert await desk.reader.last_progress(attempt_id) is None
    await desk.store.add_progress(attempt_id, events[1:])
    await desk.store.add_progress(attempt_id, events)
    assert await desk.reader.progress(attempt_id) == events
    assert await desk.reader.last_progress(attempt_id) == 2
