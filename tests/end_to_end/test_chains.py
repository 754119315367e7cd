"""Rows that belong together: asked in order, each knowing of those before it, in each way that there is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.end_to_end.rig import Rig
from tests.end_to_end.tooling import tool_job, write_handlers
from tests.stores.sqlite.audit import audit

TURNS = 3
MODES = ["previous_response", "conversation", "stateless"]
QUESTIONS = ("Tell of the harbour.", "And what of the railways?", "Which of the two cost more?")


def rows(chains: int) -> list[dict[str, Any]]:
    """Interviews of three turns, in any order, and the turns of each spread over the input."""
    made = [
        {"id": f"talk-{n}/{turn}", "talk": f"talk-{n}", "turn": turn, "day": f"2026-01-{turn + 9:02}", "text": text}
        for n in range(chains)
        for turn, text in enumerate(QUESTIONS, start=1)
    ]
    random.Random(5).shuffle(made)
    return made


def make(rig: Callable[..., Rig], *, chains: int = 3, chain: dict[str, Any] | None = None, **settings: Any) -> Rig:
    request = {
        "model": "gpt-5-mini",
        "instructions": "You know the town.",
        "input": "{{ text }}",
        "max_output_tokens": 120,
    }
    job = {"request": request, "chain": {"by": "talk", "order": "turn"} | (chain or {})} | settings.pop("job", {})
    at = rig(job=job, **settings)
    at.write_rows(rows(chains))
    return at


def sent_in_order(at: Rig, chains: int) -> None:
    """Each turn was sent when the one before it had ended, and not all talks one after the other."""
    for n in range(chains):
        times = at.query(
            "SELECT request.key, attempt.sent_at, attempt.ended_at FROM attempt"  # noqa: S608
            f" JOIN request ON request.id = request_id WHERE key LIKE 'talk-{n}/%' ORDER BY attempt.sent_at"
        )
        assert [key for key, *_ in times] == [f"talk-{n}/{turn}" for turn in (1, 2, 3)]
        assert all(before[2] <= after[1] for before, after in pairwise(times))


def exported(at: Rig) -> dict[str, Any]:
    return {
        record["key"]: record
        for record in map(json.loads, at.call("export", "r", "--db", "runs.db").out.splitlines())
    }


@pytest.mark.parametrize("mode", [MODES[0], *(pytest.param(mode, marks=pytest.mark.long) for mode in MODES[1:])])
def test_each_turn_knows_of_those_before_it(rig: Callable[..., Rig], mode: str) -> None:
    at = make(rig, chain={"mode": mode})
    ended = at.run()
    assert ended.code == 0, ended.err
    sent_in_order(at, 3)
    summary = ended.summary
    assert (summary["requests"]["succeeded"], summary["attempts"]) == (9, 9)
    ledger = at.ledger()
    assert ledger["cost_usd"] == summary["cost_usd"]
    audit(at.database)
    # The model reads more in each turn: what went before is there.
    for n in range(3):
        read = [exported(at)[f"talk-{n}/{turn}"]["usage"]["input_tokens"] for turn in (1, 2, 3)]
        assert read == sorted(set(read))
    shown = at.call("show", "r", "talk-0/2", "--db", "runs.db", "--json").summary
    [attempt] = shown["attempts"]
    asked = {name: shown["request"].get(name) for name in ("previous_response_id", "conversation")}
    conversation = attempt["response"].get("conversation")
    assert asked == {
        "previous_response_id": attempt["response"]["previous_response_id"],
        "conversation": conversation and conversation["id"],
    }
    assert bool(asked["previous_response_id"] or asked["conversation"]) == (mode != "stateless")
    assert at.query("SELECT count(*) FROM conversation") == [(3 if mode == "conversation" else 0,)]


@pytest.mark.long
@pytest.mark.parametrize("order", ["day", None])
def test_turns_go_by_a_text_that_sorts_or_by_the_input(rig: Callable[..., Rig], order: str | None) -> None:
    at = make(rig, chain={"order": order})
    if order is None:
        at.write_rows(sorted(rows(3), key=lambda row: (row["turn"], row["id"])))
    ended = at.run()
    assert ended.code == 0, ended.err
    sent_in_order(at, 3)


def test_a_turn_that_fails_takes_the_later_ones_with_it_and_retry_continues(rig: Callable[..., Rig]) -> None:
    at = make(rig, chains=2, job={"request": {"model": "{{ model }}", "input": "{{ text }}"}})
    # In one talk the second turn is one that the provider fails by hand.
    bad = "sandbox-refusal"
    at.write_rows({**row, "model": bad if row["id"] == "talk-1/2" else "gpt-5-mini"} for row in rows(2))
    ended = at.run()
    assert ended.code == 3
    records = exported(at)
    assert records["talk-1/2"]["error"]["code"] == "refusal"
    assert records["talk-1/3"]["error"] == {
        "code": "chain_broken",
        "message": "an earlier turn of the chain failed with refusal",
    }
    assert (records["talk-1/3"]["attempts"], records["talk-1/3"]["cost_usd"]) == (0, "0")
    assert [records[f"talk-0/{turn}"]["state"] for turn in (1, 2, 3)] == ["succeeded"] * 3
    # What follows is not tried without what it follows; with it, it is.
    assert json.loads(at.call("retry", "r", "--code", "chain_broken", "--db", "runs.db", "--json").out) == {
        "run": "r",
        "requeued": 0,
    }
    assert json.loads(at.call("retry", "r", "--db", "runs.db", "--json").out)["requeued"] == 2
    waiting = json.loads(at.call("status", "r", "--db", "runs.db", "--json").out)["requests"]
    assert (waiting["pending"], waiting["blocked"]) == (1, 1)
    assert "1 blocked" in at.call("status", "r", "--db", "runs.db").out
    again = at.run()
    assert again.code == 3
    assert again.summary["attempts"] == ended.summary["attempts"] + 1
    audit(at.database)


@pytest.mark.long
def test_a_broken_chain_continues_from_the_last_good_turn(rig: Callable[..., Rig]) -> None:
    at = make(rig, chains=4, sandbox={"faults": {"failed_invalid_prompt": 0.35}}, job={"retry": {"attempts": 1}})
    ended = at.run()
    assert ended.code == 3
    broken = [key for key, record in exported(at).items() if (record["error"] or {}).get("code") == "chain_broken"]
    assert broken
    at.write_config({**at.config, "provider": {"sandbox": {**at.config["provider"]["sandbox"], "faults": {}}}})
    at.call("retry", "r", "--db", "runs.db")
    again = at.run()
    assert again.code == 0, again.err
    sent = at.query("SELECT key FROM attempt JOIN request ON request.id = request_id WHERE status = 'completed'")
    assert len(sent) == len(set(sent)) == 12
    assert at.ledger()["cost_usd"] == again.summary["cost_usd"]
    audit(at.database)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["previous_response", "conversation"])
def test_a_parent_that_was_deleted_has_a_code_of_its_own(
    rig: Callable[..., Rig], server: Callable[..., str], mode: str
) -> None:
    at = make(rig, chains=1, chain={"mode": mode}, job={"request": {"model": "{{ model }}", "input": "{{ text }}"}})
    base_url = server()
    at.write_config({"provider": {"base_url": base_url, "api_key_env": "KEY"}})
    key = {"KEY": "sk-any"}
    # The second turn fails for now, so that there is time to delete what it continues from.
    bad = {"talk-0/2": "sandbox-refusal"}
    at.write_rows({**row, "model": bad.get(row["id"], "gpt-5-mini")} for row in rows(1))
    assert at.run(env=key).code == 3
    table = "SELECT response_id FROM attempt WHERE number = 1 ORDER BY sent_at LIMIT 1"
    if mode == "conversation":
        table = "SELECT conversation_id FROM conversation"
    [(parent,)] = at.query(table)
    where = "conversations" if mode == "conversation" else "responses"
    assert httpx.delete(f"{base_url}/{where}/{parent}", headers={"Authorization": "Bearer sk-any"}).is_success
    at.call("retry", "r", "--db", "runs.db")
    again = at.run(env=key)
    assert again.code == 3
    records = exported(at)
    if mode == "previous_response":
        assert records["talk-0/2"]["error"]["code"] == "previous_response_not_found"
    assert parent in records["talk-0/2"]["error"]["message"]
    assert records["talk-0/3"]["error"]["code"] == "chain_broken"
    audit(at.database)


@pytest.mark.long
def test_a_conversation_that_is_locked_is_tried_again(rig: Callable[..., Rig]) -> None:
    # Attempts enough: which turns meet the fault depends on which chain is quicker, and five in a row are not rare.
    at = make(
        rig,
        chain={"mode": "conversation"},
        job={"retry": {"attempts": 20}},
        sandbox={"faults": {"conversation_locked": 0.4}},
    )
    ended = at.run()
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 9
    assert at.ledger()["cost_usd"] == ended.summary["cost_usd"]
    assert at.query("SELECT count(*) FROM conversation") == [(3,)]


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_chain_whose_turns_call_tools(rig: Callable[..., Rig], mode: str) -> None:
    at = make(
        rig,
        chains=2,
        chain={"mode": mode},
        job=tool_job(budget={"usd": 1}),
        sandbox={"tools": {"rounds": 1, "calls": 2}},
    )
    write_handlers(at.folder)
    ended = at.run()
    assert ended.code == 0, ended.err
    assert (ended.summary["requests"]["succeeded"], ended.summary["attempts"]) == (6, 12)
    assert at.ledger()["cost_usd"] == ended.summary["cost_usd"]
    # Under a budget the worst case of each turn holds all that the model reads again.
    assert at.query(
        "SELECT count(*) FROM attempt JOIN charge ON attempt_id = attempt.id WHERE cost_pusd > worst_case_pusd"
    ) == [(0,)]
    audit(at.database)


@pytest.mark.long
def test_bad_rows_of_a_chain_are_left_out(rig: Callable[..., Rig]) -> None:
    at = make(rig, job={"input": {"path": "rows.jsonl", "key": "id", "on_bad_row": "skip"}})
    good = rows(1)
    lost = [{"id": "no-talk", "turn": 1, "text": "x"}, {"id": "no-turn", "talk": "talk-0", "text": "x"}]
    at.write_rows([lost[0], *good, lost[1]])
    ended = at.run()
    assert ended.code == 0, ended.err
    assert ended.summary["requests"]["succeeded"] == 3
    assert "no-talk" not in ended.out
    sent_in_order(at, 1)
