"""Answers that do not fit their JSON schema: the outcome, the attempts and the bill of each case."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orchestrator.core.states import State
from orchestrator.policy.errors.answer_schema import AnswerSchema

from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "year": {"type": "integer"},
        "speaker": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "topics": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["year", "speaker", "topics"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "speech", "schema": SCHEMA, "strict": True}


def typed(on_invalid: Any = "fail", shape: dict[str, Any] = FORMAT, **job: Any) -> dict[str, Any]:
    return {"request": {"text": {"format": shape}, "max_output_tokens": 800}, "on_invalid": on_invalid, **job}


def attempts(account: Account) -> Counter[tuple[str, int]]:
    return Counter((row.state.value, row.attempts) for row in account.results.values())


def all_fit(account: Account) -> bool:
    schema = AnswerSchema(SCHEMA)
    return all(
        schema.flaw(row.output_text or "") is None for row in account.results.values() if row.state is State.SUCCEEDED
    )


@pytest.mark.parametrize("on_invalid", ["fail", "retry", "repair"])
async def test_a_valid_answer_is_accepted_at_once(rehearse: Rehearse, on_invalid: str) -> None:
    at = await rehearse(rows=8, job=typed(on_invalid))
    account = await at.run()
    assert attempts(account) == {("succeeded", 1): 8}
    assert all_fit(account)


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("invalid_json", "output_invalid", "it is not JSON: "),
        ("wrong_schema", "output_invalid", "is not the JSON that the job's schema asks for: "),
        ("refusal", "refusal", "can't help"),
        ("incomplete", "max_output_tokens", "cut off"),
        ("empty_output", "empty_output", "holds no text"),
        ("content_filter", "content_filter", "filter"),
    ],
)
@pytest.mark.parametrize("on_invalid", ["fail", "repair"])
async def test_each_kind_of_missing_answer_has_its_own_outcome(
    rehearse: Rehearse, fault: str, code: str, message: str, on_invalid: str
) -> None:
    at = await rehearse(rows=3, faults={fault: 1}, job=typed(on_invalid, on_incomplete="keep"))
    account = await at.run()
    assert account.codes == {code: 3}
    # Only an existing wrong answer can be repaired.
    tries = 2 if code == "output_invalid" and on_invalid == "repair" else 1
    assert attempts(account) == {("failed", tries): 3}
    assert all(message in (row.message or "") for row in account.results.values())
    assert account.accepted == 3 * tries


async def test_a_repair_continues_from_the_answer_and_says_what_is_wrong(rehearse: Rehearse) -> None:
    # Under a budget too: the input that the model reads again is known, and bounds the next turn.
    job = typed("repair", budget={"usd": 1})
    at = await rehearse(rows=30, faults={"invalid_json": 0.4}, job=job, script=lambda _: None)
    account = await at.run()
    assert attempts(account).keys() == {("succeeded", 1), ("succeeded", 2), ("failed", 2)}
    assert account.codes.keys() == {"output_invalid"}
    assert all_fit(account)
    assert at.gateway is not None
    repair_calls = [call.fields for call in at.gateway.of("create") if call.fields.get("previous_response_id")]
    assert len(repair_calls) == sum(row.attempts == 2 for row in account.results.values())
    for fields in repair_calls:
        [item] = fields["input"]
        assert item["role"] == "user"
        assert item["content"].startswith("Your answer is not valid: it is not JSON: ")
        # Schema, cap and model apply to the repaired answer too.
        assert fields["text"] == {"format": FORMAT}
        assert (fields["model"], fields["max_output_tokens"]) == ("gpt-5-mini", 800)
    key = next(key for key, row in account.results.items() if (row.state, row.attempts) == (State.SUCCEEDED, 2))
    first, second = await at.attempts(key)
    assert (first.code, first.status, second.code) == ("output_invalid", "completed", None)
    assert first.charge is not None
    assert second.charge is not None


@pytest.mark.parametrize("repairs", [1, 3])
async def test_repairs_end(rehearse: Rehearse, repairs: int) -> None:
    at = await rehearse(rows=3, faults={"wrong_schema": 1}, job=typed({"repairs": repairs}, retry={"attempts": 1}))
    account = await at.run()
    assert attempts(account) == {("failed", 1 + repairs): 3}
    assert account.codes == {"output_invalid": 3}


async def test_a_retry_starts_again(rehearse: Rehearse) -> None:
    faults = {"wrong_schema": 0.3, "invalid_json": 0.2}
    at = await rehearse(rows=20, faults=faults, job=typed("retry", retry={"attempts": 12}), script=lambda _: None)
    account = await at.run()
    assert account.states == {"succeeded": 20}
    assert account.accepted > 20
    assert all_fit(account)
    assert at.gateway is not None
    assert not any("previous_response_id" in call.fields for call in at.gateway.of("create"))


async def test_a_retry_that_never_succeeds_says_what_was_wrong(rehearse: Rehearse) -> None:
    at = await rehearse(rows=2, faults={"wrong_schema": 1}, job=typed("retry", retry={"attempts": 2}))
    account = await at.run()
    assert account.codes == {"attempts_exhausted": 2}
    assert attempts(account) == {("failed", 2): 2}
    assert all("output_invalid" in (row.message or "") for row in account.results.values())


async def test_any_json_object_is_valid_without_a_schema(rehearse: Rehearse) -> None:
    at = await rehearse(rows=12, faults={"invalid_json": 0.4}, job=typed(shape={"type": "json_object"}))
    account = await at.run()
    assert account.codes.keys() == {"output_invalid"}
    assert account.states.keys() == {"succeeded", "failed"}


async def test_a_raised_limit_comes_before_the_schema(rehearse: Rehearse) -> None:
    raised = typed("repair", on_incomplete={"raise_max_output_tokens_to": 2000})
    at = await rehearse(rows=6, faults={"incomplete": 0.5}, job=raised)
    account = await at.run()
    assert account.codes.keys() <= {"max_output_tokens"}
    assert account.states["succeeded"] > 0
    assert all_fit(account)


async def test_an_answer_that_could_not_be_repaired_can_be_retried(rehearse: Rehearse) -> None:
    at = await rehearse(rows=12, faults={"invalid_json": 0.5}, job=typed("repair"), script=lambda _: None)
    account = await at.run()
    runs = 1
    while failed := account.states.get("failed", 0):
        assert runs < 20
        assert await at.retry(code="output_invalid") == failed
        account = await at.run()
        runs += 1
    assert runs > 1
    assert all_fit(account)
    # The retry repeats the repair: every row was sent from the start once.
    assert at.gateway is not None
    first_turns = [call.fields for call in at.gateway.of("create") if "previous_response_id" not in call.fields]
    assert len(first_turns) == 12


async def test_repairs_are_counted_separately_from_turns_of_tools(rehearse: Rehearse) -> None:
    tool = {
        "type": "function",
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    }
    job = typed("repair", handlers={"look_up": "lexicon_of_mine:look_up"})
    job["request"]["tools"] = [tool]
    at = await rehearse(rows=4, faults={"wrong_schema": 1}, job=job, script=lambda _: None)
    (at.folder / "lexicon_of_mine.py").write_text("def look_up(word):\n    return 'a word'\n")
    account = await at.run()
    assert account.codes == {"output_invalid": 4}
    for key in account.results:
        history = await at.attempts(key)
        flawed = [attempt.code for attempt in history].count("output_invalid")
        # Once for the answer after the tool's output, and once for the repaired one, which is also wrong.
        assert flawed == 2
        assert len(history) > flawed
