"""Function tools from the job file to the answer: every turn accounted, every trouble with a clear end."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.rig import Rig
from tests.end_to_end.tooling import REQUEST, calls_noted, tool_job, write_handlers
from tests.stores.sqlite.audit import audit

ROUNDS = {"rounds": 2, "calls": 2}


@pytest.fixture
def farm(rig: Callable[..., Rig]) -> Callable[..., Rig]:
    """A job with function tools; the sandbox calls them in two rounds, two at a time."""

    def make(
        *,
        rows: int = 5,
        seconds: float = 0.0,
        handlers: dict[str, str] | None = None,
        job: dict[str, Any] | None = None,
        sandbox: dict[str, Any] | None = None,
        **config: Any,
    ) -> Rig:
        chosen = {"tools": ROUNDS} | (sandbox or {})
        made = rig(rows=rows, job=tool_job(handlers, **(job or {})), sandbox=chosen, config=config)
        write_handlers(made.folder, seconds=seconds)
        return made

    return make


def outputs(rig: Rig) -> list[str]:
    return [output for (output,) in rig.query("SELECT output FROM tool_call ORDER BY attempt_id, place")]


def exported(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rig.call("export", "r", "--db", "runs.db").out.splitlines()]


def check_books(rig: Rig, summary: dict[str, Any]) -> None:
    """Each response of the provider is an attempt of ours with its charge, and the sums agree."""
    assert summary["cost_usd"] == rig.ledger()["cost_usd"]
    ours = {row for (row,) in rig.query("SELECT response_id FROM attempt JOIN charge ON attempt_id = attempt.id")}
    assert ours == {each["id"] for each in rig.ledger_responses()}
    audit(rig.database)


def test_the_loop_ends_with_an_answer_and_every_turn_has_its_charge(farm: Callable[..., Rig]) -> None:
    at = farm(rows=6)
    ended = at.run()
    assert ended.code == 0, ended.err
    summary = ended.summary
    assert (summary["requests"]["succeeded"], summary["attempts"]) == (6, 18)
    assert at.query("SELECT DISTINCT number, turn FROM request") == [(3, 2)]
    check_books(at, summary)
    # Two calls in each of two rounds, each of them made once and sent to the model.
    assert len(outputs(at)) == 24
    assert calls_noted(at.folder).total() == 24
    shown = at.call("show", "r", "row-0", "--db", "runs.db", "--json").summary
    before, last = shown["attempts"][1:]
    assert (
        shown["request"]["previous_response_id"] == before["response_id"] == last["response"]["previous_response_id"]
    )
    assert [(item["call_id"], item["output"]) for item in shown["request"]["input"]] == [
        (call["call_id"], call["output"]) for call in before["tool_calls"]
    ]
    for record in exported(at):
        assert record["state"] == "succeeded"
        assert "bushel" in record["output_text"]
        assert record["attempts"] == 3
        assert record["usage"]["output_tokens"] > 0
    assert sum(round(float(record["cost_usd"]) * 1e12) for record in exported(at)) == round(
        float(summary["cost_usd"]) * 1e12
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("handler", "says"),
    [
        ("raises", "error: LookupError: nothing is known of"),
        ("hangs", "error: the tool did not answer within 0.3 seconds"),
        ("hangs_too", "error: the tool did not answer within 0.3 seconds"),
        ("boasts", "error: the tool answered with 5000000 bytes, more than the 262144 allowed"),
    ],
)
def test_an_error_of_a_handler_is_sent_to_the_model_and_the_row_continues(
    farm: Callable[..., Rig], handler: str, says: str
) -> None:
    at = farm(rows=2, handlers={"harvest": handler, "price": handler}, job={"tool_timeout": "300ms"})
    ended = at.run()
    assert ended.code == 0, ended.err
    assert len(outputs(at)) == 8
    assert all(output.startswith(says) for output in outputs(at))
    assert at.query("SELECT DISTINCT failed FROM tool_call") == [(1,)]
    assert ("tool_failed" in ended.err) == (handler == "raises")
    assert "nothing is known" not in ended.err


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("unknown_tool", "error: there is no tool named 'no_such_function'; there are: harvest, price"),
        ("broken_arguments", "error: the arguments do not fit the tool: it is not JSON"),
        ("wrong_arguments", "error: the arguments do not fit the tool: "),
    ],
)
def test_the_error_of_a_wrong_call_is_sent_to_the_model(farm: Callable[..., Rig], fault: str, says: str) -> None:
    at = farm(rows=2, sandbox={"faults": {fault: 1}})
    ended = at.run()
    assert ended.code == 0, ended.err
    first = [
        output for (output,) in at.query("SELECT output FROM tool_call WHERE place = 0 ORDER BY attempt_id, place")
    ]
    assert len(first) == 4
    assert all(output.startswith(says) for output in first)


def test_too_many_turns_fail_the_row_and_more_turns_complete_it(farm: Callable[..., Rig]) -> None:
    at = farm(rows=3, job={"max_turns": 2})
    ended = at.run()
    assert ended.code == 3
    assert {(record["error"]["code"], record["error"]["message"]) for record in exported(at)} == {
        ("max_turns", "after 2 turns the model still asks for tools")
    }
    # No tool runs whose output is no longer needed.
    assert calls_noted(at.folder).total() == 6
    assert json.loads(at.call("retry", "r", "--db", "runs.db", "--json").out)["requeued"] == 3
    again = at.run("--set", "max_turns=5")
    assert again.code == 0, again.err
    assert again.summary["requests"]["succeeded"] == 3
    check_books(at, again.summary)


@pytest.mark.long
def test_without_handlers_a_call_ends_the_row(rig: Callable[..., Rig]) -> None:
    at = rig(rows=1, job={"request": tool_job()["request"]}, sandbox={"tools": ROUNDS})
    assert at.run().code == 3
    assert exported(at)[0]["error"]["code"] == "requires_action"


def test_a_handler_that_is_not_there_is_refused_before_anything_is_sent(farm: Callable[..., Rig]) -> None:
    at = farm(rows=1, handlers={"price": "no_such_thing"})
    ended = at.run()
    assert ended.code == 2
    assert "handlers.price" in ended.err
    assert not at.database.exists()


@pytest.mark.long
def test_the_budget_bounds_every_turn(farm: Callable[..., Rig]) -> None:
    at = farm(rows=12, job={"budget": {"usd": 0.004}})
    ended = at.run()
    assert ended.code in (3, 4), ended.err
    assert 0 < float(at.ledger()["cost_usd"]) <= 0.004
    # Each worst case holds what the model reads again.
    assert at.query(
        "SELECT count(*) FROM attempt JOIN charge ON attempt_id = attempt.id WHERE cost_pusd > worst_case_pusd"
    ) == [(0,)]
    more = at.run("--set", "budget.usd=1")
    assert more.code == 0, more.err
    check_books(at, more.summary)
    assert more.summary["requests"]["succeeded"] == 12


@pytest.mark.long
def test_an_interrupt_while_handlers_run_loses_nothing(farm: Callable[..., Rig]) -> None:
    at = farm(rows=4, seconds=60)
    awaiting = "SELECT 1 FROM request WHERE state = 'acting' LIMIT 1"
    left = at.run_until(lambda: at.query(awaiting) != [], send=signal.SIGINT)
    assert left.code == 130
    write_handlers(at.folder)
    ended = at.run()
    assert ended.code == 0, ended.err
    check_books(at, ended.summary)
    assert Counter(dict(at.query("SELECT request_id, count(*) FROM attempt GROUP BY request_id"))).total() == 12


@pytest.mark.long
def test_a_cancel_while_handlers_run_ends_the_run(farm: Callable[..., Rig]) -> None:
    at = farm(rows=4, seconds=4)
    process = at.start(*at.run_arguments())
    while process.poll() is None and not at.query("SELECT 1 FROM request WHERE state = 'acting' LIMIT 1"):
        time.sleep(0.02)
    cancelled = at.call("cancel", "r", "--config", "config.yaml", "--db", "runs.db", "--json")
    assert cancelled.code == 0, cancelled.err
    at.end(process)
    summary = cancelled.summary
    assert summary["state"] == "cancelled"
    assert summary["requests"]["cancelled"] == 4
    assert {record["error"]["code"] for record in exported(at)} == {"cancelled"}
    check_books(at, summary)
    # And resumes it, if the user decides to.
    assert json.loads(at.call("retry", "r", "--state", "cancelled", "--db", "runs.db", "--json").out)["requeued"] == 4
    again = at.run()
    assert again.code == 0, again.err
    check_books(at, again.summary)


@pytest.mark.long
def test_a_cancel_of_a_run_that_was_left_while_handlers_ran(farm: Callable[..., Rig]) -> None:
    at = farm(rows=3, seconds=60)
    awaiting = "SELECT 1 FROM request WHERE state = 'acting' LIMIT 1"
    assert at.run_until(lambda: at.query(awaiting) != [], send=signal.SIGKILL).code == -signal.SIGKILL
    cancelled = at.call("cancel", "r", "--config", "config.yaml", "--db", "runs.db", "--json")
    assert cancelled.code == 0, cancelled.err
    assert cancelled.summary["requests"]["cancelled"] == 3
    audit(at.database)


def staged() -> dict[str, Any]:
    """A job whose first stage has a tool, and whose second has another; the third has none."""
    functions = {"harvest": "farm:harvest", "price": "farm:price"}
    tools = {tool["name"]: tool for tool in REQUEST["tools"]}
    asked = {name: {**REQUEST, "tools": [tools[name]]} for name in functions}
    return {
        "stages": {
            "yields": {"from": "input", "request": asked["harvest"], "handlers": {"harvest": functions["harvest"]}},
            "prices": {
                "from": "yields",
                "request": {**asked["price"], "input": "And the price? {{ yields }}"},
                "handlers": {"price": functions["price"]},
                "max_turns": 3,
            },
            "report": {
                "from": "prices",
                "group_by": [],
                "request": {"model": "gpt-5-mini", "input": "{{ rows | length }} prices", "max_output_tokens": 300},
            },
        }
    }


def test_each_stage_has_tools_of_its_own(rig: Callable[..., Rig]) -> None:
    at = rig(rows=3, job=staged(), sandbox={"tools": {"rounds": 2, "calls": 1}})
    write_handlers(at.folder)
    ended = at.run()
    assert ended.code == 0, ended.err
    # Three rows with three turns in each of two stages, and the report.
    assert (ended.summary["requests"]["succeeded"], ended.summary["attempts"]) == (7, 19)
    assert Counter(name for name, _ in calls_noted(at.folder).elements()) == {"harvest": 6, "price": 6}
    check_books(at, ended.summary)


def test_turns_are_counted_by_stage(rig: Callable[..., Rig]) -> None:
    at = rig(rows=1, job=staged(), sandbox={"tools": {"rounds": 3, "calls": 1}})
    write_handlers(at.folder)
    assert at.run().code == 3
    assert at.query("SELECT stage, code FROM request ORDER BY id") == [
        ("yields", None),
        ("prices", "max_turns"),
        ("report", "group_incomplete"),
    ]


@pytest.mark.parametrize(
    ("handlers", "said"),
    [
        ({"price": "farm:no_such_thing"}, "stages.prices.handlers.price"),
        ({"sell": "farm:price"}, "stages.prices.handlers.sell"),
    ],
)
def test_a_handler_of_a_stage_that_is_not_there_is_refused(
    rig: Callable[..., Rig], handlers: dict[str, str], said: str
) -> None:
    job = staged()
    job["stages"]["prices"]["handlers"] |= handlers
    at = rig(rows=1, job=job)
    write_handlers(at.folder)
    ended = at.run()
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not at.database.exists()
