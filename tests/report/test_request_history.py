"""The history of a request is complete for scripts, and readable for people."""

from __future__ import annotations

from dataclasses import replace

import orjson

from orchestrator.core.model import Charge, ToolUse, UnitPrice, Usage
from orchestrator.core.states import State
from orchestrator.report.request_history import history_object, history_text, raw_body
from orchestrator.stores.reads import AttemptRecord, RequestRecord, ToolCall
from orchestrator.stores.request_history import RequestHistory
from orchestrator.stores.stream_events import ProgressEvent

PRICE = UnitPrice(
    model="gpt-5-mini",
    tier="default",
    input=250_000,
    cached=25_000,
    cache_write=250_000,
    cache_write_12h=500_000,
    output=2_000_000,
    source="genai-prices",
    version="0.2.3",
)
REQUEST = RequestRecord(
    id=1,
    key="washington-1790",
    stage="main",
    where="data/speeches.jsonl:1",
    state=State.SUCCEEDED,
    code=None,
    message=None,
    row=orjson.dumps({"id": "washington-1790", "text": "word " * 1000}),
    not_before=0.0,
    settled_at=1_795_291_210.0,
    max_output_tokens=None,
)
FIRST = AttemptRecord(
    id=1,
    number=1,
    counted=True,
    idempotency_key="k1",
    response_id=None,
    status=None,
    http_status=500,
    model=None,
    service_tier=None,
    code="server_error",
    message="try again",
    sent_at=1_795_291_200.0,
    accepted_at=None,
    completed_at=None,
    ended_at=1_795_291_200.5,
    possible_duplicate=True,
    worst_case_pusd=5_000_000_000,
    charge=None,
    output_text=None,
    body=None,
)
SECOND = replace(
    FIRST,
    id=2,
    number=2,
    response_id="resp_a",
    status="completed",
    http_status=200,
    model="gpt-5-mini-2025-08-07",
    service_tier="default",
    code=None,
    message=None,
    accepted_at=1_795_291_200.2,
    completed_at=1_795_291_204.0,
    possible_duplicate=False,
    charge=Charge(
        usage=Usage(input_tokens=1200, output_tokens=80, total_tokens=1280),
        cost_pusd=460_000_000,
        upper_bound_pusd=None,
        price=PRICE,
        tool_use=ToolUse(web_searches=2),
    ),
    output_text="A plain\nsummary.",
    body=b'{"id": "resp_a",  "status": "completed"}',
)


def test_the_text_shows_attempts_costs_and_the_answer() -> None:
    text = history_text(RequestHistory(REQUEST, [FIRST, SECOND])).plain
    assert text.startswith("washington-1790  succeeded\nfrom data/speeches.jsonl:1\n")
    assert "attempt 1  no response  server_error: try again  (a response with an unknown id may exist)" in text
    assert "sent 2026-11-21 20:00:00 UTC · accepted after 0.2 s · completed after 4.0 s · ended after 0.5 s" in text
    assert "gpt-5-mini-2025-08-07, default · 1,200 in · 80 out · $0.00046" in text
    assert "… (5,000 characters; --json shows them all)" in text
    assert text.endswith("answer\n  A plain\n  summary.")


def test_the_text_cuts_long_parts_of_the_request() -> None:
    sent = {"input": [{"role": "user", "content": "word " * 1000}], "model": "gpt-5-mini"}
    text = history_text(RequestHistory(REQUEST, [SECOND]), sent).plain
    assert '"content": "word word' in text
    assert text.count("… (5,000 characters; --json shows them all)") == 2
    assert history_object(RequestHistory(REQUEST, [SECOND]), sent)["request"] == sent


def test_a_code_of_orchestrator_is_explained() -> None:
    failed = replace(REQUEST, state=State.FAILED, code="queued_timeout")
    assert "queued_timeout: the response stayed queued for longer" in history_text(RequestHistory(failed, [])).plain


def test_an_unknown_cost_is_not_shown_as_zero() -> None:
    attempt = replace(SECOND, charge=Charge(usage=None, cost_pusd=None, upper_bound_pusd=10**9, price=None))
    assert "cost unknown, at most $0.001" in history_text(RequestHistory(REQUEST, [attempt])).plain


def test_the_object_is_complete() -> None:
    history = history_object(RequestHistory(REQUEST, [FIRST, SECOND]))
    assert len(history["row"]["text"]) == 5000
    first, second = history["attempts"]
    assert first["error"] == {"code": "server_error", "message": "try again"}
    assert (first["charge"], first["response"]) == (None, None)
    assert second["response"] == {"id": "resp_a", "status": "completed"}
    assert second["charge"]["cost_usd"] == "0.00046"
    assert second["charge"]["web_searches"] == 2
    assert second["charge"]["price"]["output_usd_per_million"] == "2"
    assert orjson.loads(orjson.dumps(history)) == history


def test_the_raw_body_is_exactly_the_latest() -> None:
    assert raw_body(RequestHistory(REQUEST, [FIRST, SECOND])) == SECOND.body
    assert raw_body(RequestHistory(REQUEST, [FIRST])) is None


def test_tools_and_progress_are_listed_with_their_attempt() -> None:
    call = ToolCall(
        attempt_id=2,
        call_id="call_1",
        place=0,
        name="look_up",
        arguments='{"year": 1790}',
        output='"Washington"',
        failed=False,
        started_at=SECOND.sent_at + 5,
        ended_at=SECOND.sent_at + 6.5,
    )
    event = ProgressEvent(sequence=4, type="response.output_item.added", item="message", at=SECOND.sent_at + 2)
    history = RequestHistory(REQUEST, [FIRST, SECOND], tool_calls={2: [call]}, progress={2: [event]})
    text = history_text(history).plain
    assert text.index("attempt 2") < text.index("response.output_item.added (message) after 2.0 s")
    assert 'look_up({"year": 1790}) returned after 1.5 s: "Washington"' in text
    first, second = history_object(history)["attempts"]
    assert (first["tool_calls"], first["progress"]) == ([], [])
    assert second["tool_calls"][0]["output"] == '"Washington"'
    assert second["progress"][0]["sequence"] == 4


def test_a_shared_answer_is_shown_with_its_source() -> None:
    history = RequestHistory(
        replace(REQUEST, answered_in="nightly-1", answered_as="adams-1797"), [], answered_by=SECOND
    )
    text = history_text(history).plain
    assert (
        "answered by the response to adams-1797 of the run nightly-1, a duplicate of this request  resp_a  completed"
        in text
    )
    assert text.endswith("answer\n  A plain\n  summary.")
    whose = history_object(history)["answered_by"]
    assert (whose["run"], whose["key"], whose["response_id"]) == ("nightly-1", "adams-1797", "resp_a")
    assert raw_body(history) == SECOND.body


def test_a_dropped_row_is_reported() -> None:
    history = RequestHistory(replace(REQUEST, row=b""), [SECOND])
    assert "its data was dropped" in history_text(history).plain
    assert history_object(history)["row"] is None
