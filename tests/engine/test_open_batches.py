"""Batches in memory: bodies are in a file, and lines come out as they went in."""

from __future__ import annotations

import json

import pytest

from orchestrator.engine.open_batches import FormingBatch, line_size
from orchestrator.policy.batches.forming import BatchSize

from .builders import a_prepared, a_stage

pytestmark = pytest.mark.anyio


def forming_of(*bodies: bytes) -> FormingBatch:
    forming = FormingBatch(a_stage(), "m", 0.0)
    for number, body in enumerate(bodies, start=1):
        each = a_prepared(number)
        each.body = body  # type: ignore[misc]
        forming.add(each, line_size(each))
    return forming


async def text_of(forming: FormingBatch, lines: list[tuple[int, int]]) -> bytes:
    return b"".join([piece async for piece in forming.pieces(lines)])


async def test_lines_carry_the_ids_of_their_attempts_in_the_order_asked_for() -> None:
    forming = forming_of(b'{"n":0}', b"{}", b'{"n":2}')
    lines = [(1_000_001, 2), (2_000_001, 0)]
    text = await text_of(forming, lines)
    assert forming.file_size(lines) == len(text)
    read = [json.loads(line) for line in text.splitlines()]
    assert [(line["custom_id"], line["body"]) for line in read] == [("1000001", {"n": 2}), ("2000001", {"n": 0})]
    assert {(line["method"], line["url"]) for line in read} == {("POST", "/v1/responses")}
    forming.close()


async def test_a_file_is_read_as_often_as_it_must_be_sent() -> None:
    forming = forming_of(*(b'{"text":"%b"}' % (b"x" * 50_000) for _ in range(5)))
    lines = [(number, number) for number in range(5)]
    pieces = [len(piece) async for piece in forming.pieces(lines)]
    assert len(pieces) > 1
    assert await text_of(forming, lines) == await text_of(forming, lines)
    forming.close()


def test_bodies_and_rows_are_kept_in_memory_no_longer() -> None:
    forming = forming_of(b'{"n":0}')
    assert (forming.requests[0].body, forming.requests[0].request.row) == (b"", b"")
    forming.close()


def test_a_line_counts_with_its_envelope_and_a_margin_of_tokens() -> None:
    each = a_prepared(1)
    size = line_size(each)
    assert size == BatchSize(lines=1, bytes=size.bytes, tokens=round(each.tokens * 1.25))
    assert size.bytes > len(each.body) + len('"custom_id":"","method":"POST","url":"/v1/responses","body":')
