"""What is compressed comes back byte for byte, and is smaller."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.stores.sql.compression import pack_body, pack_row, unpack_body, unpack_row

ID = "resp_" + "0123456789abcdef" * 3


def a_body(text: str, *, indent: int | None) -> bytes:
    response = {
        "id": ID,
        "object": "response",
        "created_at": 1764158832,
        "status": "completed",
        "background": True,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "gpt-5-mini-2025-08-07",
        "output": [
            {
                "id": "msg_" + "fedcba9876543210" * 3,
                "type": "message",
                "status": "completed",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
                "role": "assistant",
            }
        ],
        "usage": {"input_tokens": 1200, "output_tokens": 80, "total_tokens": 1280},
    }
    return json.dumps(response, indent=indent, separators=None if indent else (",", ":")).encode()


@given(st.binary(max_size=3_000))
def test_any_row_comes_back(row: bytes) -> None:
    assert unpack_row(pack_row(row)) == row


@given(st.binary(max_size=3_000), st.none() | st.text(max_size=2_000), st.none() | st.text(max_size=60))
def test_any_body_comes_back(body: bytes, text: str | None, response_id: str | None) -> None:
    assert unpack_body(pack_body(body, text, response_id), text, response_id) == body


@given(st.text(max_size=300), st.none() | st.text(max_size=60), st.booleans(), st.data())
def test_any_body_with_its_text_and_id_in_it_comes_back(
    text: str, response_id: str | None, ascii_only: bool, data: st.DataObject
) -> None:
    pieces = [
        json.dumps(part, ensure_ascii=ascii_only) for part in (text, response_id or "", text + (response_id or ""))
    ]
    body = "".join(data.draw(st.lists(st.sampled_from([*pieces, "{", "\\", " "]), max_size=8))).encode()
    assert unpack_body(pack_body(body, text, response_id), text, response_id) == body


@pytest.mark.parametrize("size", [0, 1, 29_000, 33_000, 200_000])
def test_bodies_around_the_window_come_back(size: int) -> None:
    text = "".join(chr(97 + n * n % 26) for n in range(size))
    body = a_body(text, indent=None)
    assert unpack_body(pack_body(body, text, ID), text, ID) == body


@pytest.mark.parametrize("indent", [None, 2])
def test_a_body_takes_little_beside_its_text(indent: int | None) -> None:
    letters = random.Random(1)
    text = " ".join("".join(letters.choices("etaoinshrdlu", k=6)) for _ in range(100))
    body = a_body(text, indent=indent)
    assert len(pack_body(body, text, ID)) < 150 < 400 < len(pack_body(body, None, None))


@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_text_is_found_however_it_is_escaped(ascii_only: bool) -> None:
    text = 'Größer "als" zuvor\n' * 30
    body = json.dumps({"id": ID, "text": text}, ensure_ascii=ascii_only).encode()
    packed = pack_body(body, text, ID)
    assert len(packed) < 40
    assert unpack_body(packed, text, ID) == body


def test_a_text_that_is_escaped_in_another_way_is_still_compressed() -> None:
    letters = random.Random(1)
    text = "/".join("".join(letters.choices("etaoinshrdlu", k=6)) for _ in range(100))
    body = a_body(text, indent=None).replace(b"/", b"\\/")
    packed = pack_body(body, text, ID)
    assert len(packed) < 500 < len(pack_body(body, None, None))
    assert unpack_body(packed, text, ID) == body


def test_bytes_that_mark_the_holes_may_stand_in_a_broken_body() -> None:
    body = b'{"id":"' + ID.encode() + b'","text":"\x00\x01 an answer"}'
    assert unpack_body(pack_body(body, "an answer", ID), "an answer", ID) == body


def test_a_row_stays_readable_text() -> None:
    row = json.dumps({"text": "ü" * 4_000}, ensure_ascii=False)
    assert pack_row(row.encode()) == row


def test_a_long_row_is_compressed_only_if_that_makes_it_smaller() -> None:
    long = json.dumps({"text": "the same words again " * 2_000}).encode()
    packed = pack_row(long)
    assert isinstance(packed, bytes)
    assert len(packed) < len(long) / 5
    noise = random.Random(1).randbytes(40_000)
    assert pack_row(noise) == b"\x00" + noise


def test_the_dictionary_is_part_of_the_format() -> None:
    """These bytes were written by the first version: a changed dictionary would make old bodies unreadable."""
    body = b'{"id":"resp_1","object":"response","status":"completed"}'
    assert unpack_body(bytes.fromhex(STORED_WITH_SHAPE), None, "resp_1") == body
    assert unpack_body(bytes.fromhex(STORED_WITH_TEXT), "An answer.", "resp_1") == body
    assert unpack_body(bytes.fromhex(STORED_WITH_HOLES), None, "resp_1") == body


def test_an_unknown_codec_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown codec 9"):
        unpack_body(b"\x09rest", None, None)


STORED_WITH_SHAPE = "02787d43426d8a432e9d0c71144f58b24a2d00085212f5"
STORED_WITH_TEXT = "03787d9de17117432ea70c71145458324d2d00085212f5"
STORED_WITH_HOLES = "0483e612461c2513965c520b00"
