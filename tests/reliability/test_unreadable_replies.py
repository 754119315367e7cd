"""Replies that arrive whole and cannot be read, or only leniently: each is the outcome of its own row."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import State
from orchestrator.policy.errors import answer_schema
from orchestrator.policy.pricing.prices import PriceBook

from .gateway import Call
from .rehearsal import RUN, Account, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12


def some_unreadable(account: Account, *, code: str = "unreadable_reply") -> int:
    """Returns how many rows failed; asserts that the others succeeded, and that nothing was sent twice."""
    failed = account.states["failed"]
    assert account.exit is ExitCode.SOME_FAILED
    assert account.states == {"succeeded": ROWS - failed, "failed": failed}
    assert account.codes == {code: failed}
    assert account.creates == account.summary.attempts == ROWS
    assert account.summary.possible_duplicates == 0
    return failed


@pytest.mark.parametrize("quirk", ["odd_text", "odd_fields"])
async def test_odd_json_is_read(rehearse: Rehearse, quirk: str) -> None:
    at = await rehearse(rows=ROWS, faults={quirk: 1})
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.creates == ROWS
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]
    assert account.summary.cost_unknown == 0
    async with at.orchestrator() as orchestrator:
        history = await orchestrator.show("rehearsal", "row-0")
    assert history.attempts[0].body


async def test_an_end_that_stays_unreadable_fails_its_row_and_is_not_paid_for_again(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"unreadable_end": 0.3})
    account = await at.run()
    failed = some_unreadable(account)
    assert account.summary.cost_unknown == failed
    hidden = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 < hidden <= account.summary.cost_unknown_bound.bounded_pusd
    # Resuming asks nothing again.
    assert (await at.run()).creates == ROWS


async def test_a_create_whose_reply_names_no_response_fails_its_row(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"unreadable_200": 0.3})
    account = await at.run()
    failed = some_unreadable(account)
    assert account.lost == account.summary.cost_unknown == failed
    hidden = account.ledger["cost_pusd"] - account.summary.cost_pusd
    assert 0 < hidden <= account.summary.cost_unknown_bound.bounded_pusd


async def test_a_damaged_create_whose_id_can_be_read_is_followed(rehearse: Rehearse) -> None:
    account = await (await rehearse(rows=ROWS, faults={"broken_200": 0.5})).run()
    assert account.lost > 0
    assert account.exit is ExitCode.OK
    assert account.creates == ROWS
    assert account.summary.cost_pusd == account.ledger["cost_pusd"]


async def test_unreadable_polls_are_repeated(rehearse: Rehearse) -> None:
    account = await (await rehearse(rows=ROWS, faults={"poll_unreadable": 0.1})).run()
    assert account.exit is ExitCode.OK
    assert account.creates == ROWS


async def test_a_server_whose_creates_are_all_unreadable_is_paid_for_three(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"unreadable_200": 1}, limits={"max_in_flight": 1})
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "unreadable_reply"
    assert account.creates == 3
    assert account.codes == {"unreadable_reply": 3, None: ROWS - 3}


async def test_a_page_in_place_of_every_poll_of_one_response_ends_its_row_unpaid_again(rehearse: Rehearse) -> None:
    """A gateway's page says nothing about the response: it is polled to its deadline, and then not sent again."""

    def script(call: Call) -> Response | None:
        page = call.key == "row-3" and call.kind == "poll"
        return Response("<html><title>Welcome</title></html>", media_type="text/html") if page else None

    at = await rehearse(rows=ROWS, script=script, timeouts={"run": "5m", "queued": "5m"}, speed=240.0)
    some_unreadable(await at.run(same_bill=False))


@pytest.mark.parametrize(
    ("broken", "code", "unknown"),
    [
        (lambda patch: patch.setattr(answer_schema.AnswerSchema, "flaw", _bug), "answer_invalid", 0),
        (lambda patch: patch.setattr("orchestrator.provider.client.parse_response", _bug), "unreadable_reply", 2),
    ],
    ids=["judging", "reading"],
)
async def test_an_unexpected_error_about_one_reply_becomes_the_outcome_of_its_row(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch, broken: Any, code: str, unknown: int
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    at = await rehearse(rows=3, job={"request": {"text": text}})
    broken(monkeypatch)
    account = await at.run(same_bill=False)
    assert account.exit is (ExitCode.HALTED if unknown else ExitCode.SOME_FAILED)
    ended = [row for row in account.results.values() if row.state is State.FAILED]
    assert {row.code for row in ended} == {code}
    # The type of the cause is stored, and never its text, which may quote an answer.
    assert all("ZeroDivisionError" in (row.message or "") for row in ended)
    assert not any("secret" in (row.message or "") for row in ended)
    assert account.summary.cost_unknown == unknown
    assert account.creates == 3


async def test_a_charge_that_cannot_be_computed_is_unknown(rehearse: Rehearse) -> None:
    at = await rehearse(rows=3)
    # The sandbox prices its ledger with the same code, after the run.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PriceBook, "charge_response", _bug)
        async with at.orchestrator() as orchestrator:
            await orchestrator.run(at.job, name=RUN)
    account = await at.account(same_bill=False)
    assert account.exit is ExitCode.OK
    assert account.summary.cost_unknown == 3
    assert account.summary.cost_unknown_bound.bounded_pusd > 0


def _bug(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("secret text")
