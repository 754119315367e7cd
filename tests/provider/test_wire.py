"""Response objects as they arrive, from the ideal one to the barely readable one."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import Response, ToolUse, Usage
from orchestrator.provider.wire import UnreadableReply, parse_response, salvage_id

USAGE = {
    "input_tokens": 21,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 339,
    "output_tokens_details": {"reasoning_tokens": 320},
    "total_tokens": 360,
}


def a_message(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(parts), **fields}


def text(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": []}


def a_body(**fields: Any) -> bytes:
    """Returns a completed response; a field given as ``...`` is left out."""
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764158832,
        "completed_at": 1764158850.5,
        "status": "completed",
        "background": True,
        "model": "gpt-6-luna-2026-09-22",
        "service_tier": "default",
        "error": None,
        "incomplete_details": None,
        "output": [{"type": "reasoning", "id": "rs_1", "summary": [], "status": None}, a_message(text("Hi"))],
        "usage": USAGE,
        "metadata": {"run": "r", "attempt": "1"},
        **fields,
    }
    return orjson.dumps({name: value for name, value in whole.items() if value is not ...})


def parse(**fields: Any) -> Response:
    return parse_response(a_body(**fields))


def test_a_completed_response() -> None:
    body = a_body()
    assert parse_response(body) == Response(
        id="resp_1",
        status="completed",
        ended=True,
        body=body,
        model="gpt-6-luna-2026-09-22",
        service_tier="default",
        usage=Usage(21, 4, 2, 339, 320, 360),
        no_tool_items=True,
        output_text="Hi",
        created_at=1764158832.0,
        completed_at=1764158850.5,
    )


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("queued", False),
        ("in_progress", False),
        ("completed", True),
        ("failed", True),
        ("incomplete", True),
        ("cancelled", True),
        ("canceled", False),
        ("pending", False),
        ("something_new", False),
    ],
)
def test_which_status_is_final(status: str, ended: bool) -> None:
    response = parse(status=status)
    assert (response.status, response.ended) == (status, ended)


def test_status_aliases_of_another_server() -> None:
    aliases = {"succeeded": "completed", "running": "in_progress"}
    done = parse_response(a_body(status="succeeded"), status_aliases=aliases)
    assert (done.status, done.ended, done.output_text) == ("completed", True, "Hi")
    running = parse_response(a_body(status="running"), status_aliases=aliases)
    assert (running.status, running.ended) == ("in_progress", False)


def test_only_id_and_status_are_needed() -> None:
    response = parse_response(b'{"id":"x","status":"queued"}')
    assert response == Response(id="x", status="queued", ended=False, body=b'{"id":"x","status":"queued"}')


def test_the_output_is_read_only_when_the_response_has_ended() -> None:
    response = parse(status="in_progress")
    assert (response.output_text, response.tool_use) == ("", ToolUse())


# ── Usage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        (..., None),
        ({}, None),
        ({"input_tokens": 5}, None),
        ({"input_tokens": 5, "output_tokens": None}, None),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(5, 0, 0, 7, 0, 12)),
        ({"input_tokens": 5, "output_tokens": 7, "total_tokens": None}, Usage(5, 0, 0, 7, 0, 12)),
        ({"input_tokens": 5.0, "output_tokens": 7, "input_tokens_details": None}, Usage(5, 0, 0, 7, 0, 12)),
        ({"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {}}, Usage(5, 0, 0, 7, 0, 12)),
        (
            {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "new": {"a": 1}},
            Usage(5, 3, 0, 7, 0, 12),
        ),
        (USAGE | {"input_tokens_details": {"cached_tokens": None}}, Usage(21, 0, 0, 339, 320, 360)),
        # Contradictory values are unknown: a guess would be a wrong price.
        (USAGE | {"input_tokens_details": {"cached_tokens": 22}}, None),
        (USAGE | {"input_tokens_details": {"cached_tokens": "all"}}, None),
        (USAGE | {"input_tokens": -1}, None),
        (USAGE | {"input_tokens": 10**12}, None),
        ("21 tokens", None),
        ([1, 2], None),
    ],
)
def test_usage(usage: Any, expected: Usage | None) -> None:
    assert parse(usage=usage).usage == expected


# ── Output ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_text_is_every_text_part_of_every_message() -> None:
    output = [
        a_message(text("a"), {"type": "image"}, text("b"), status=None),
        {"type": "reasoning", "content": [{"type": "output_text", "text": "hidden"}]},
        a_message(text("c")),
    ]
    assert parse(output=output).output_text == "abc"


def test_final_answers_are_preferred_to_commentary() -> None:
    output = [a_message(text("thinking"), phase="commentary"), a_message(text("answer"), phase="final_answer")]
    assert parse(output=output).output_text == "answer"
    assert parse(output=output[:1]).output_text == "thinking"
    assert parse(output=[a_message(text("a"), phase=None), *output]).output_text == "answer"


def test_a_refusal() -> None:
    response = parse(output=[a_message({"type": "refusal", "refusal": "I can't."})])
    assert (response.refusal, response.output_text) == ("I can't.", "")
    assert parse().refusal is None


@pytest.mark.parametrize(
    "output",
    [
        None,
        ...,
        [],
        "text",
        7,
        {"type": "message"},
        [None, 3, "x", [], {}, {"type": None}, {"type": ["message"]}],
        [{"type": "message"}, {"type": "message", "content": None}, {"type": "message", "content": 7}],
        [a_message(text("a") | {"text": None}, {"type": "output_text"})],
        [{"type": "message", "content": [None, 1, "x", [text("a")], {"text": "a"}]}],
        [{"type": "brand_new_item", "content": [text("a")]}],
        [{"type": "reasoning", "id": "rs_1", "summary": []}],
    ],
)
def test_unreadable_text_is_empty(output: Any) -> None:
    response = parse(output=output)
    assert (response.output_text, response.refusal, response.waits_for) == ("", None, None)


@pytest.mark.parametrize(
    "output",
    [
        [{"type": "message", "role": "assistant", "content": "Hi"}],
        [{"role": "assistant", "content": [text("Hi")]}],
        [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "no answer"}],
        [a_message({"type": "text", "text": "Hi"})],
        a_message(text("Hi")),
        [a_message(text("H")), {"type": "message", "content": "i"}],
    ],
)
def test_messages_in_the_shapes_of_other_servers(output: Any) -> None:
    assert parse(output=output).output_text == "Hi"


def test_the_text_that_libraries_add_counts_only_where_no_message_has_one() -> None:
    assert parse(output=[], output_text="Hi").output_text == "Hi"
    assert parse(output=[{"type": "reasoning", "summary": []}], output_text="Hi").output_text == "Hi"
    assert parse(output=[a_message(text("right"))], output_text="other").output_text == "right"
    assert parse(output=[], output_text=["Hi"]).output_text == ""
    refused = parse(output=[a_message({"type": "refusal", "refusal": "no"})], output_text="Hi")
    assert (refused.output_text, refused.refusal) == ("", "no")


@pytest.mark.parametrize(("result", "found"), [("aGk=", True), ("", False), (None, False), (7, False)])
def test_a_picture_is_found(result: Any, found: bool) -> None:
    assert parse(output=[{"type": "image_generation_call", "result": result}]).has_image is found
    assert not parse(output=[a_message(text("Hi"))]).has_image


def test_odd_items_do_not_hide_the_good_ones() -> None:
    assert parse(output=[None, {"type": 7}, a_message(text("Hi")), "x"]).output_text == "Hi"


@pytest.mark.parametrize(
    "kind",
    [
        "function_call",
        "custom_tool_call",
        "shell_call",
        "local_shell_call",
        "apply_patch_call",
        "computer_call",
        "mcp_approval_request",
    ],
)
def test_a_call_that_the_client_must_answer(kind: str) -> None:
    output = [a_message(text("let me see")), {"type": kind, "id": "i_1", "call_id": "call_1"}]
    assert parse(output=output).waits_for == kind
    assert parse(output=[{"type": kind}]).waits_for == kind


@pytest.mark.parametrize(
    "answered",
    [
        [{"type": "shell_call", "call_id": "c1"}, {"type": "shell_call_output", "call_id": "c1"}],
        [{"type": "function_call", "call_id": "c1"}, {"type": "function_call_output", "call_id": "c1"}],
        [
            {"type": "mcp_approval_request", "id": "a1"},
            {"type": "mcp_approval_response", "id": "a2", "approval_request_id": "a1"},
        ],
        [{"type": "web_search_call"}, {"type": "mcp_call"}, {"type": "image_generation_call"}],
    ],
)
def test_a_call_that_is_answered_already(answered: list[dict[str, Any]]) -> None:
    assert parse(output=answered).waits_for is None


def test_the_first_open_call_counts() -> None:
    output = [
        {"type": "shell_call", "call_id": "c1"},
        {"type": "shell_call_output", "call_id": "c1"},
        {"type": "function_call", "call_id": "c2"},
    ]
    assert parse(output=output).waits_for == "function_call"


def test_tools_that_have_a_fee_per_call() -> None:
    output = [
        *[{"type": "web_search_call", "action": {"type": kind}} for kind in ("search", "open_page", "search")],
        {"type": "file_search_call"},
        *[{"type": "code_interpreter_call", "container_id": name} for name in ("cntr_1", "cntr_2", "cntr_1")],
        a_message(text("done")),
    ]
    # Opening a page is not billed; and only the response's own account says how many searches are.
    response = parse(output=output)
    assert response.tool_use == ToolUse(web_searches=2, file_searches=1, code_sessions=2)
    assert response.uncertain_use
    response = parse(output=output, tool_usage={"web_search": {"num_requests": 1}})
    assert response.tool_use == ToolUse(web_searches=1, file_searches=1, code_sessions=2)
    assert not response.uncertain_use
    odd: list[Any] = [
        {"web_search": {"num_requests": -1}},
        {"web_search": {"num_requests": True}},
        {"web_search": 5},
        [],
    ]
    for damaged in odd:
        assert parse(output=output, tool_usage=damaged).tool_use.web_searches == 2
    unnamed = [{"type": "code_interpreter_call"}, {"type": "code_interpreter_call", "container_id": None}]
    assert parse(output=unnamed).tool_use == ToolUse(code_sessions=1)
    assert not parse(output=unnamed).no_tool_items
    assert not parse(output=[{"type": "image_generation_call"}]).no_tool_items


def test_the_tokens_of_images_come_from_the_account_of_the_tools() -> None:
    images = {"input_tokens": 12, "output_tokens": 272}
    response = parse(output=[{"type": "image_generation_call"}], tool_usage={"image_gen": images})
    assert response.tool_use == ToolUse(image_input_tokens=12, image_output_tokens=272)
    assert parse(output=[], tool_usage={"image_gen": images}).tool_use == response.tool_use
    odd = {"image_gen": {"input_tokens": "12", "output_tokens": 10**15}}
    assert parse(output=[{"type": "image_generation_call"}], tool_usage=odd).tool_use == ToolUse()


def test_tokens_written_for_twelve_hours_are_counted_apart() -> None:
    def usage_of(written: int, **details: object) -> dict[str, object]:
        into = {"cached_tokens": 5, "cache_write_tokens": written, **details}
        return {"input_tokens": 100, "output_tokens": 1, "input_tokens_details": into}

    split = {"ttl_30m_tokens": 30, "ttl_12h_tokens": 40}
    response = parse(usage=usage_of(70, cache_write_tokens_details=split))
    assert response.usage is not None
    assert (response.usage.cache_write_tokens, response.usage.cache_write_12h_tokens) == (70, 40)
    assert not response.uncertain_use
    # More for twelve hours than in all contradicts itself: such a usage is none.
    assert parse(usage=usage_of(30, cache_write_tokens_details=split)).usage is None
    # Without the split, all of it may have been written for as long as the response says.
    response = parse(usage=usage_of(70), prompt_cache_options={"mode": "implicit", "ttl": "12h"})
    assert response.usage is not None
    assert (response.usage.cache_write_12h_tokens, response.uncertain_use) == (70, True)
    response = parse(usage=usage_of(70), prompt_cache_options={"ttl": "30m"})
    assert response.usage is not None
    assert (response.usage.cache_write_12h_tokens, response.uncertain_use) == (0, False)


# ── The rest ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1764158832, 1764158832.0),
        (1764158832.25, 1764158832.25),
        ("1764158832.0", 1764158832.0),
        ("2025-11-26T12:07:12Z", 1764158832.0),
        ("2025-11-26T13:07:12+01:00", 1764158832.0),
        ("2025-11-26T12:07:12", 1764158832.0),
        (None, None),
        ("", None),
        ("recently", None),
        ("nan", None),
        (True, None),
        ([1], None),
        ("9" * 400, None),
        (-(2**63), None),
        (2**64 - 1, None),
        (1e308, None),
        (f"{'9' * 400}-01-01T00:00:00Z", None),
    ],
)
def test_times(value: Any, seconds: float | None) -> None:
    response = parse(created_at=value, completed_at=value)
    assert (response.created_at, response.completed_at) == (seconds, seconds)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, None, None),
        ({"code": "server_error", "message": "oh"}, "server_error", "oh"),
        ({"code": None, "type": "server_error", "message": None}, "server_error", None),
        ({"code": 500, "message": ["x"]}, "500", None),
        ("out of memory", None, "out of memory"),
        ({}, None, None),
        (7, None, None),
    ],
)
def test_errors_of_failed_responses(error: Any, code: str | None, message: str | None) -> None:
    response = parse(status="failed", error=error, output=[], usage=None)
    assert (response.error_code, response.error_message) == (code, message)


def test_a_long_error_is_cut() -> None:
    message = parse(status="failed", error={"message": "x" * 9000}).error_message
    assert message is not None
    assert len(message) == 2000


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "max_output_tokens"),
        ({"reason": "length"}, "length"),
        ({"reason": None}, None),
        ({"reason": 7}, None),
        ({}, None),
        ("length", None),
        (None, None),
    ],
)
def test_why_it_is_incomplete(details: Any, reason: str | None) -> None:
    assert parse(status="incomplete", incomplete_details=details).incomplete_reason == reason


def test_fields_of_the_wrong_type_count_as_absent() -> None:
    response = parse(model=3, service_tier=["flex"])
    assert (response.model, response.service_tier) == (None, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page, not a response: Sign in"),
        (b'{"id":"resp_1","status":"comp', "not complete JSON"),
        (b"upstream timed out", "not complete JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no usable id, status"),
        (b'{"id":7,"status":"queued"}', "no usable id"),
        (b'{"id":"","status":"queued"}', "no usable id"),
        (b'{"id":"resp_1","status":null}', "no usable status"),
        (b'{"error":{"message":"no"}}', "no usable id, status"),
    ],
)
def test_a_body_that_is_no_response(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableReply, match=reason):
        parse_response(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"id":"resp_1","object":"response","sta', "resp_1"),
        (b'{"id":"resp_1"', "resp_1"),
        (b'{"object":"response","id":"litellm_poll_7","x', "litellm_poll_7"),
        ('{"id":"resp_1","metadata":{"k":"ä'.encode()[:-1], "resp_1"),
        (b'{"id":"resp_1","object":"response"}', "resp_1"),
        (b'{"id":"resp_1', None),
        (b'{"id":"chatcmpl_1","object":"chat.comp', None),
        (b'{"object":"list","data":[{"id":"resp_1","x":1}', None),
        (b'{"previous_response_id":"resp_0","id', None),
        (b'{"error":{"id":"resp_1"}}', None),
        (b'{"id":5,"object":"response"}', None),
        (b"<html>resp_1</html>", None),
        (b'"resp_1"', None),
        (b"", None),
    ],
)
def test_salvaging_an_id(body: bytes, found: str | None) -> None:
    assert salvage_id(body) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["message"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "output",
    "usage",
    "error",
    "incomplete_details",
    "created_at",
    "metadata",
    "model",
    "tools",
    "completed_at",
]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(["completed", "failed", "queued"]))
def test_any_value_of_a_field_leaves_the_rest_readable(fields: dict[str, Any], status: str) -> None:
    body = json.dumps({"id": "resp_1", "status": status, **fields}).encode()
    response = parse_response(body)
    assert (response.id, response.status, response.body) == ("resp_1", status, body)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["message", "function_call", "x"])},
            optional={
                "content": JSON,
                "call_id": JSON,
                "id": JSON,
                "phase": JSON,
                "container_id": JSON,
            },
        )
        | JSON
    )
)
def test_any_output_items_give_a_response(output: list[Any]) -> None:
    response = parse_response(json.dumps({"id": "resp_1", "status": "completed", "output": output}).encode())
    assert isinstance(response, Response)
    assert isinstance(response.output_text, str)
    assert isinstance(response.waits_for, str | None)


@given(st.integers(min_value=0, max_value=len(a_body())))
def test_a_body_cut_anywhere_gives_the_id_or_nothing(length: int) -> None:
    cut = a_body()[:length]
    assert salvage_id(cut) == ("resp_1" if length >= len(b'{"id":"resp_1"') else None)
    if length < len(a_body()):
        with pytest.raises(UnreadableReply):
            parse_response(cut)


@given(st.binary())
def test_arbitrary_bytes_are_no_response(body: bytes) -> None:
    assert salvage_id(body) is None
    with pytest.raises(UnreadableReply):
        parse_response(body)
