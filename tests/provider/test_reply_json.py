"""What servers say in JSON that the standard does not allow."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import Seen
from orchestrator.core.problems import ReplyLost
from orchestrator.provider.client import read_response
from orchestrator.provider.reply_json import leading_fields, read_json
from orchestrator.provider.transport import Reply
from orchestrator.provider.wire import parse_response, salvage_id

TEXT = (
    b'{"id":"resp_1","status":"completed",'
    b'"output":[{"type":"message","content":[{"type":"output_text","text":"%s"}]}]}'
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param(rb"a \ud83d b", "a \ufffd b", id="half of a surrogate pair, escaped"),
        pytest.param(rb"a \udc00\ud83d b", "a \ufffd\ufffd b", id="a pair in the wrong order"),
        pytest.param(b"a \xed\xa0\xbd b", "a \ufffd\ufffd\ufffd b", id="half of a surrogate pair, encoded"),
        pytest.param(b"caf\xe9", "caf\ufffd", id="Latin-1"),
        pytest.param(b"a\x01\t\nb", "a\x01\t\nb", id="control characters"),
        pytest.param(rb"\ud83d\ude00", "😀", id="a whole pair"),
    ],
)
def test_texts_that_are_not_clean_are_read(written: bytes, read: str) -> None:
    response = parse_response(TEXT.replace(b"%s", written))
    assert response.output_text == read
    assert orjson.loads(response.body)["output"][0]["content"][0]["text"] == read


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_and_byte_order_marks(encoding: str) -> None:
    response = parse_response(TEXT.replace(b"%s", "Größe".encode()).decode().encode(encoding))
    assert response.output_text == "Größe"


def test_a_clean_body_is_kept_as_it_is() -> None:
    body = TEXT.replace(b"%s", b"a  b")
    assert read_json(body)[1] is body


@pytest.mark.parametrize(
    "value",
    [
        b"9" * 400,
        b"-" + b"9" * 5000,
        b"1e999",
        b"1e308",
        b"NaN",
        b"-1",
        b"true",
        b"[]",
        b"{}",
        b'"soon"',
        b'"' + b"9" * 400 + b'"',
        b"99999999999999",
        b"[" * 300 + b"]" * 300,
    ],
)
@pytest.mark.parametrize(
    "field", ["completed_at", "created_at", "usage", "error", "incomplete_details", "model", "output"]
)
def test_a_field_of_the_wrong_type_or_size_is_ignored(field: str, value: bytes) -> None:
    body = b'{"id":"resp_1","status":"completed","%s":%s}' % (field.encode(), value)
    response = parse_response(body)
    assert (response.id, response.status) == ("resp_1", "completed")
    assert (response.completed_at, response.created_at, response.usage) == (None, None, None)
    # Every reader of the stored body can read and write it.
    assert orjson.dumps(orjson.loads(response.body))


@pytest.mark.parametrize("deep", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000])
def test_what_is_nested_beyond_all_limits_is_unreadable(deep: bytes) -> None:
    reply = Reply(status=200, headers={}, body=b'{"id":"resp_1","status":"completed","output":' + deep + b"}")
    found = read_response(reply, {})
    assert isinstance(found, ReplyLost)
    assert (found.unreadable, found.response_id) == (True, "resp_1")


def test_a_gateways_page_is_no_reply_of_the_api() -> None:
    for body in (b"", b" \n", b"<html><title>Sorry</title>"):
        found = read_response(Reply(status=200, headers={}, body=body), {})
        assert isinstance(found, ReplyLost)
        assert not found.unreadable


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"id":"resp_1","x":#,"status":"queued"}', "resp_1"),
        (b'\xef\xbb\xbf{"object":"response","id":"abc","x":"\x00', "abc"),
        (b'{"x":{"id":"resp_2"},"id":"resp_1",', "resp_1"),
        (b'{"x":{"id":"resp_2"}#,"id":"resp_1"}', None),
        (b'{"id":"resp_1', None),
        (b'{"id":"resp_1"', "resp_1"),
        (b'{"id":"resp_1#,"object":"response"}', None),
        (b'{"id":7,"object":"response"', None),
        (b'["resp_1"]', None),
        (b'{"id":"file_1","x":#', None),
    ],
)
def test_the_id_before_the_damage_is_salvaged(body: bytes, found: str | None) -> None:
    assert salvage_id(body) == found


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_damage_gives_a_response_or_a_problem(noise: bytes, place: int) -> None:
    body = TEXT[:place] + noise + TEXT[place + len(noise) :]
    assert isinstance(read_response(Reply(status=200, headers={}, body=body), {}), Seen | ReplyLost)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_clean_json_reads_as_itself(value: Any) -> None:
    assert read_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))[0] == json.loads(
        json.dumps(value).encode("utf-8", "replace")
    )


@pytest.mark.parametrize("unit", [b"\\ud83d", b"\xff", b'{"a":', b"[", b"9", b"\\", b'"', b"{}", b" "])
def test_reading_takes_time_in_proportion_to_the_length(unit: bytes) -> None:
    """Ten times the length takes about ten times as long; a quadratic reader would take a hundred times."""

    def cost(times: int) -> float:
        body = b'{"id":"resp_1","text":"' + unit * times
        started = time.process_time()
        for _ in range(3):
            salvage_id(body)
            read_response(Reply(status=200, headers={}, body=body), {})
        return time.process_time() - started

    short = cost(20_000)
    assert cost(200_000) < 40 * max(short, 0.005)


def test_leading_fields_of_no_object() -> None:
    assert leading_fields(b"") == {}
    assert leading_fields(b"{1:2}") == {}
