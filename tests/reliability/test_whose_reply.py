"""A reply is taken only if it is that of the request that waits for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import State

from .gateway import Call, Script
from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 6


def answered(response_id: str, text: str, **fields: Any) -> Response:
    """A response that has ended with that text."""
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
    body = {"id": response_id, "object": "response", "status": "completed", "output": [message], "usage": usage}
    return JSONResponse({**body, "model": "gpt-5-mini", **fields})


def own_answers(account: Account) -> None:
    """Every row that succeeded has the answer that was made for it."""
    for key, row in account.results.items():
        if row.state is State.SUCCEEDED:
            assert row.output_text == f"answer to {key}"


class Provider:
    """Accepts every create, and answers a poll with the answer to its own row, unless ``swap`` says whose."""

    def __init__(self, swap: dict[str, str] | None = None, *, repeats: bool = True, ids: int = 1000) -> None:
        self.swap = swap or {}
        self.repeats = repeats
        self.ids = ids
        self.rows: list[tuple[str, dict[str, str]]] = []
        self.polls = 0

    def __call__(self, call: Call) -> Response | None:
        if call.kind == "create":
            self.rows.append((call.key or "", call.fields["metadata"]))
            number = (len(self.rows) - 1) % self.ids
            return JSONResponse({"id": f"resp_{number}", "object": "response", "status": "queued"})
        self.polls += 1
        asked = int(call.response_id.removeprefix("resp_"))
        return self.shown(asked)

    def shown(self, asked: int) -> Response:
        key = self.swap.get(self.rows[asked][0], self.rows[asked][0])
        number, metadata = next((n, row[1]) for n, row in enumerate(self.rows) if row[0] == key)
        return answered(f"resp_{number}", f"answer to {key}", metadata=metadata if self.repeats else None)


async def test_swapped_polls_are_never_taken(rehearse: Rehearse) -> None:
    at = await rehearse(rows=12, faults={"poll_swapped": 0.2})
    account = await at.run()
    assert account.creates == account.summary.attempts == 12
    assert set(account.codes) <= {"unreadable_reply"}
    shown = {each["id"]: each for each in await at.responses()}
    taken = [row for row in account.results.values() if row.state is State.SUCCEEDED]
    assert len({row.response_id for row in taken}) == len(taken) > 0
    for row in taken:
        async with at.orchestrator() as orchestrator:
            history = await orchestrator.show("rehearsal", row.key)
        body = json.loads(history.attempts[-1].body or b"{}")
        assert (body["id"], body["metadata"]["orchestrator_key"]) == (row.response_id, row.key)
        assert row.response_id in shown


@pytest.mark.parametrize("repeats", [True, False], ids=["metadata repeated", "metadata left out"])
async def test_two_answers_that_stay_swapped_fail_their_rows(rehearse: Rehearse, repeats: bool) -> None:
    provider = Provider({"row-2": "row-3", "row-3": "row-2"}, repeats=repeats)
    account = await (await rehearse(rows=ROWS, script=provider)).run(same_bill=False)
    own_answers(account)
    assert account.states == {"succeeded": ROWS - 2, "failed": 2}
    assert account.codes == {"unreadable_reply": 2}
    assert len(provider.rows) == ROWS
    assert account.summary.cost_unknown == 2


class Renaming(Provider):
    """A gateway that gives a response another id at every poll."""

    def shown(self, asked: int) -> Response:
        key, metadata = self.rows[asked]
        return answered(f"resp_other_{self.polls}", f"answer to {key}", metadata=metadata if self.repeats else None)


@pytest.mark.parametrize("repeats", [True, False], ids=["metadata repeated", "metadata left out"])
async def test_a_gateway_that_renames_a_response_at_every_poll_stays_usable(
    rehearse: Rehearse, repeats: bool
) -> None:
    account = await (await rehearse(rows=ROWS, script=Renaming(repeats=repeats))).run(same_bill=False)
    assert account.exit is ExitCode.OK
    own_answers(account)


class RenamingAndSwapping(Provider):
    """A gateway that shows each response under the id asked for, and mixes up two of them."""

    def shown(self, asked: int) -> Response:
        key = self.swap.get(self.rows[asked][0], self.rows[asked][0])
        metadata = next(row[1] for row in self.rows if row[0] == key)
        return answered(f"resp_{asked}", f"answer to {key}", metadata=metadata)


async def test_the_metadata_shows_what_the_ids_do_not(rehearse: Rehearse) -> None:
    provider = RenamingAndSwapping({"row-2": "row-3", "row-3": "row-2"})
    account = await (await rehearse(rows=ROWS, script=provider)).run(same_bill=False)
    own_answers(account)
    assert account.codes == {"unreadable_reply": 2}


async def test_a_response_id_that_comes_for_another_request_is_never_free(rehearse: Rehearse) -> None:
    """Three ids for six requests: three are answered, and the other three are failures of unknown cost."""
    provider = Provider(ids=3, repeats=False)
    at = await rehearse(rows=ROWS, script=provider, limits={"max_in_flight": 1})
    account = await at.run(same_bill=False)
    assert account.states == {"succeeded": 3, "failed": 3}
    assert account.codes == {"unreadable_reply": 3}
    assert all("another request" in (row.message or "") for row in account.results.values() if row.code)
    assert account.summary.cost_unknown == 3
    assert account.summary.cost_unknown_bound.bounded_pusd > 0
    assert [row.cost_pusd for row in account.results.values() if row.code] == [None] * 3


def swapping_creates() -> Script:
    """Answers the second create with the metadata of the first one."""
    first: dict[str, Any] = {}

    def script(call: Call) -> Response | None:
        if call.kind != "create":
            return None
        first.setdefault("metadata", call.fields["metadata"])
        if call.ordinal != 2:
            return None
        return JSONResponse({"id": "resp_9", "object": "response", "status": "queued", **first})

    return script


async def test_a_create_that_is_answered_for_another_row_fails_its_row(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, script=swapping_creates(), limits={"max_in_flight": 1})
    account = await at.run(same_bill=False)
    assert account.states == {"succeeded": ROWS - 1, "failed": 1}
    assert account.codes == {"unreadable_reply": 1}
    assert account.summary.cost_unknown == 1
