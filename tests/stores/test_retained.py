"""What every store promises about retention, uploads and the progress of streams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.states import RunState, State
from orchestrator.stores.reads import Dependent, Duplicate
from orchestrator.stores.retained import ObjectKind, ProviderObject, Retained
from orchestrator.stores.stream_events import ProgressEvent
from orchestrator.stores.uploaded_files import Upload

from .builders import NOW, Harness, a_run

pytestmark = pytest.mark.anyio

ALL = {"ended_before": float("inf"), "after": 0, "limit": 100}
UPLOAD = Upload(file_id="file-1", provider="p", sha256=b"x" * 32, name="a.pdf", bytes=7, uploaded_at=NOW)


async def objects_of(harness: Harness, kind: ObjectKind = ObjectKind.RESPONSE, **chosen: float) -> list[str]:
    found = await harness.reader.provider_objects(harness.run.id, kind, **{**ALL, **chosen})  # type: ignore[arg-type]
    return [each.provider_id for each in found]


async def retained_of(harness: Harness) -> Retained:
    found = await harness.reader.retained(harness.run.id)
    assert found is not None
    return found


async def test_a_run_without_a_policy_retains_nothing(harness: Harness) -> None:
    assert await harness.reader.retained(harness.run.id) is None
    await harness.store.note_export(harness.run.id, NOW)
    assert await harness.reader.retained(harness.run.id) is None


async def test_the_latest_policy_counts_and_the_export_is_kept(harness: Harness) -> None:
    await harness.store.keep_policy(harness.run.id, "sandbox", "{}")
    await harness.store.note_export(harness.run.id, NOW)
    await harness.store.keep_policy(harness.run.id, "sandbox", '{"inputs": "drop"}')
    retained = await retained_of(harness)
    assert (retained.policy, retained.exported_at, retained.deleted) == ('{"inputs": "drop"}', NOW, {})


async def test_the_provider_keeps_ended_responses_until_they_are_deleted(harness: Harness) -> None:
    _, open_, *done = await harness.add(5)
    await harness.submit(open_)
    attempts = [await harness.succeed(each) for each in done]
    found = await objects_of(harness)
    assert found == [f"resp_{attempt_id}" for attempt_id in attempts]
    assert await objects_of(harness, limit=2) == found[:2]
    assert await objects_of(harness, ended_before=NOW + 9) == []
    first = (await harness.reader.provider_objects(harness.run.id, ObjectKind.RESPONSE, **ALL))[0]  # type: ignore[arg-type]
    assert await objects_of(harness, after=first.place) == found[1:]
    await harness.store.note_deleted(harness.run.id, first, was_there=True, at=NOW)
    assert await objects_of(harness) == found[1:]


async def test_deletions_are_counted_once_and_by_kind(harness: Harness) -> None:
    await harness.store.keep_policy(harness.run.id, "sandbox", "{}")
    gone = [
        ProviderObject(ObjectKind.RESPONSE, "resp_1"),
        ProviderObject(ObjectKind.RESPONSE, "resp_2"),
        ProviderObject(ObjectKind.FILE, "file-1"),
    ]
    for each in (*gone, gone[0]):
        await harness.store.note_deleted(harness.run.id, each, was_there=each.provider_id != "resp_2", at=NOW)
    retained = await retained_of(harness)
    assert (retained.deleted, retained.unknown) == ({ObjectKind.RESPONSE: 2, ObjectKind.FILE: 1}, 1)


async def test_the_provider_keeps_conversations_until_they_are_deleted(harness: Harness) -> None:
    await harness.store.keep_conversation(harness.run.id, "a", "conv_1")
    assert await objects_of(harness, ObjectKind.CONVERSATION) == ["conv_1"]
    gone = ProviderObject(ObjectKind.CONVERSATION, "conv_1")
    await harness.store.note_deleted(harness.run.id, gone, was_there=True, at=NOW)
    assert await objects_of(harness, ObjectKind.CONVERSATION) == []


async def test_only_settled_rows_lose_their_data(harness: Harness) -> None:
    await harness.store.keep_policy(harness.run.id, "sandbox", "{}")
    open_, failed = await harness.add(2)
    await harness.fail(failed, code="refusal")
    await harness.store.drop(harness.run.id, inputs=True, outputs=False)
    await harness.store.drop(harness.run.id, inputs=True, outputs=False)
    assert (await harness.request(open_.key)).row == open_.row
    assert (await harness.request(failed.key)).row == b""
    retained = await retained_of(harness)
    assert (retained.inputs_dropped, retained.outputs_dropped) == (1, 0)
    assert await harness.reader.without_data(harness.run.id, [State.FAILED], None) == 1
    assert await harness.reader.without_data(harness.run.id, [State.FAILED], "no_such_code") == 0
    assert await harness.reader.without_data(harness.run.id, [State.CANCELLED], None) == 0


async def test_an_answer_that_another_run_shares_stays(harness: Harness) -> None:
    await harness.store.keep_policy(harness.run.id, "sandbox", "{}")
    shared, own = await harness.add(2)
    for each in (shared, own):
        await harness.succeed(each)
    other = replace(harness, run=await harness.store.create_run(a_run("other")))
    [same] = await other.add(1)
    moved = await harness.store.join(same.id, Duplicate(shared.id, here=False), b"f", NOW)
    assert moved == [Dependent(same.key, State.SUCCEEDED)]
    await harness.store.drop(harness.run.id, inputs=False, outputs=True)
    [kept], [gone] = [await harness.reader.attempts(each.id) for each in (shared, own)]
    assert kept.output_text is not None
    assert (gone.output_text, gone.body) == (None, None)
    assert gone.charge is not None


async def test_a_file_is_found_by_its_content_until_it_is_deleted(harness: Harness) -> None:
    await harness.store.add_upload(UPLOAD, harness.run.id)
    assert await harness.reader.upload("p", UPLOAD.sha256) == UPLOAD
    assert await harness.reader.upload("elsewhere", UPLOAD.sha256) is None
    await harness.store.note_deleted(
        harness.run.id, ProviderObject(ObjectKind.FILE, "file-1"), was_there=True, at=NOW
    )
    assert await harness.reader.upload("p", UPLOAD.sha256) is None


async def test_the_provider_keeps_a_file_while_another_run_needs_it(harness: Harness) -> None:
    await harness.store.add_upload(UPLOAD, harness.run.id)
    other = await harness.store.create_run(a_run("other"))
    await harness.store.use_upload("file-1", other.id)
    await harness.store.use_upload("file-1", other.id)
    assert await objects_of(harness, ObjectKind.FILE) == []
    await harness.store.set_run_state(other.id, RunState.FINISHED, None, NOW)
    assert await objects_of(harness, ObjectKind.FILE) == ["file-1"]


async def test_progress_is_kept_once_in_its_order(harness: Harness) -> None:
    [request] = await harness.add(1)
    attempt_id = await harness.submit(request)
    events = [
        ProgressEvent(sequence=number, type=f"response.{word}", item=None, at=NOW + number)
        for number, word in enumerate(("created", "queued", "in_progress"))
    ]
    assert await harness.reader.last_progress(attempt_id) is None
    await harness.store.add_progress(attempt_id, events[1:])
    await harness.store.add_progress(attempt_id, events)
    assert await harness.reader.progress(attempt_id) == events
    assert await harness.reader.last_progress(attempt_id) == 2
