"""Conversations: their items, who may write to them, and how responses continue them."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.testing import FakeClock

from .callers import TEXT, Caller, Start

pytestmark = pytest.mark.anyio


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def begin(caller: Caller, *texts: str) -> str:
    reply = await caller.http.post("/conversations", json={"items": [said(text) for text in texts]})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


async def items_of(caller: Caller, conversation_id: str, **query: Any) -> list[Any]:
    reply = await caller.http.get(f"/conversations/{conversation_id}/items", params={"order": "asc"} | query)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["data"])


async def test_a_response_is_answered_from_its_conversation_and_added_to_it(start: Start, clock: FakeClock) -> None:
    caller = await start()
    conversation_id = await begin(caller, "Peace holds on every border.")
    response = await caller.created(input="And trade?", conversation=conversation_id)
    assert response["conversation"] == {"id": conversation_id}
    assert len(await items_of(caller, conversation_id)) == 1

    clock.advance(30)
    items = await items_of(caller, conversation_id)
    assert [item["type"] for item in items] == ["message", "message", "reasoning", "message"]
    assert [item.get("role") for item in items] == ["user", "user", None, "assistant"]
    usage = (await caller.seen(response["id"]))["usage"]
    counted = await caller.http.post("/responses/input_tokens", json={"model": "gpt-5-mini", "input": "And trade?"})
    assert usage["input_tokens"] > counted.json()["input_tokens"]


async def test_one_response_at_a_time_writes_to_it(start: Start, clock: FakeClock) -> None:
    caller = await start()
    conversation_id = await begin(caller)
    await caller.created(conversation={"id": conversation_id})
    locked = await caller.create(conversation=conversation_id)
    assert (locked.status_code, locked.json()["error"]["code"]) == (400, "conversation_locked")
    assert locked.json()["error"]["param"] == "conversation"
    clock.advance(30)
    assert (await caller.create(conversation=conversation_id)).status_code == 200


async def test_cancelled_and_failed_responses_are_not_added(start: Start, clock: FakeClock) -> None:
    caller = await start()
    conversation_id = await begin(caller)
    cancelled = await caller.created(conversation=conversation_id)
    await caller.cancel(cancelled["id"])
    await caller.created(model="sandbox-failed", conversation=conversation_id)
    clock.advance(30)
    assert await items_of(caller, conversation_id) == []


async def test_items_are_added_listed_found_and_removed(start: Start) -> None:
    caller = await start()
    conversation_id = await begin(caller, "one", "two")
    path = f"/conversations/{conversation_id}/items"
    added = (await caller.http.post(path, json={"items": [said("three")]})).json()
    assert [item["content"][0]["text"] for item in added["data"]] == ["three"]

    first = await items_of(caller, conversation_id, limit=2)
    rest = await items_of(caller, conversation_id, limit=2, after=first[-1]["id"])
    assert [item["content"][0]["text"] for item in (*first, *rest)] == ["one", "two", "three"]
    assert (await caller.http.get(f"{path}/{rest[0]['id']}")).json() == rest[0]

    assert (await caller.http.delete(f"{path}/{first[0]['id']}")).json()["id"] == conversation_id
    assert len(await items_of(caller, conversation_id)) == 2
    assert (await caller.http.get(f"{path}/{first[0]['id']}")).status_code == 404


async def test_metadata_is_replaced(start: Start) -> None:
    caller = await start()
    created = (await caller.http.post("/conversations", json={"metadata": {"topic": "trade"}})).json()
    assert (created["object"], created["metadata"]) == ("conversation", {"topic": "trade"})
    path = f"/conversations/{created['id']}"
    await caller.http.post(path, json={"metadata": {"topic": "peace"}})
    assert (await caller.http.get(path)).json()["metadata"] == {"topic": "peace"}


async def test_a_deleted_conversation_is_gone(start: Start) -> None:
    caller = await start()
    conversation_id = await begin(caller, "one")
    path = f"/conversations/{conversation_id}"
    gone = (await caller.http.delete(path)).json()
    assert gone == {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    replies = [
        await caller.http.get(path),
        await caller.http.delete(path),
        await caller.http.get(f"{path}/items"),
        await caller.http.post(f"{path}/items", json={"items": []}),
        await caller.create(conversation=conversation_id),
    ]
    assert {reply.status_code for reply in replies} == {404}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"items": [said("x")] * 21}, "items"),
        ({"items": [{"role": "user"}]}, "items[0].content"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"name": "x"}, "name"),
    ],
)
async def test_a_wrong_conversation_is_refused(start: Start, fields: dict[str, Any], param: str) -> None:
    caller = await start()
    reply = await caller.http.post("/conversations", json=fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_an_interview_gets_a_new_answer_to_each_question(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    asked: dict[str, Any] = {"model": "gpt-4.1", "background": False, "instructions": "Answer in one sentence."}
    response = await caller.created(**asked, input=f"{TEXT}\n\nHow was the harvest?")
    answers = [response["output"][-1]["content"][0]["text"]]
    for question in ("Were roads built?", "Is there peace on the border?"):
        response = await caller.created(**asked, input=question, previous_response_id=response["id"])
        answers.append(response["output"][-1]["content"][0]["text"])
    assert answers[1:] == ["Three new roads were built.", "Peace holds on every border of the country."]
    assert answers[0] not in answers[1:]


async def test_reasoning_is_sent_back_with_the_item_after_it(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    first = await caller.created(background=False, input=TEXT)
    thought, message = first["output"]
    for given, status in (([thought, message], 200), ([message], 200), ([thought], 400)):
        reply = await caller.create(background=False, input=[said(TEXT), *given, said("And?")])
        assert reply.status_code == status
    assert reply.json()["error"]["message"] == (
        f"Item '{thought['id']}' of type 'reasoning' was provided without its required following item."
    )


async def test_a_response_that_ends_with_reasoning_cannot_be_continued(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0}, faults={"empty_output": 1})
    first = await caller.created(background=False)
    reply = await caller.create(background=False, previous_response_id=first["id"])
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input")


async def test_items_can_be_referenced(start: Start) -> None:
    caller = await start(latency={"queue": 0, "run": 0})
    first = await caller.created(background=False, input=TEXT)
    listed = (await caller.http.get(f"/responses/{first['id']}/input_items")).json()["data"]
    conversation_id = await begin(caller, "Peace holds.")
    kept = await items_of(caller, conversation_id)
    ids = [item["id"] for item in (*listed, *first["output"], *kept)]
    references = [{"type": "item_reference", "id": each} for each in ids]
    second = await caller.created(background=False, input=[*references, said("And?")])
    shown = (await caller.http.get(f"/responses/{second['id']}/input_items", params={"order": "asc"})).json()["data"]
    assert [item["id"] for item in shown[:-1]] == ids
    assert [item["type"] for item in shown] == ["message", "reasoning", "message", "message", "message"]
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]


@pytest.mark.parametrize("path", ["/responses", "/responses/input_tokens", "/responses/compact"])
async def test_an_unknown_reference_is_not_found(start: Start, path: str) -> None:
    caller = await start()
    body = {"model": "gpt-4.1", "input": [{"type": "item_reference", "id": "msg_gone"}]}
    reply = await caller.http.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["message"]) == (404, "Item with id 'msg_gone' not found.")


async def test_the_input_of_a_response_is_all_that_was_said_before_it(start: Start, clock: FakeClock) -> None:
    caller = await start()
    conversation_id = await begin(caller, "Peace holds on every border.")
    first = await caller.created(input="And trade?", conversation=conversation_id)

    async def input_of(response: Any) -> list[str | None]:
        reply = await caller.http.get(f"/responses/{response['id']}/input_items", params={"order": "asc"})
        return [item.get("role") for item in reply.json()["data"]]

    assert await input_of(first) == ["user", "user"]
    clock.advance(30)
    second = await caller.created(input="And war?", conversation=conversation_id)
    clock.advance(30)
    # What follows belongs to the conversation, and not to the input.
    assert await input_of(second) == ["user", "user", None, "assistant", "user"]
    assert await input_of(first) == ["user", "user"]
    assert (await caller.http.delete(f"/conversations/{conversation_id}")).status_code == 200
    assert await input_of(first) == ["user"]
