"""Events are parsed with any line endings, and wherever the bytes are split."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.provider.sse import EventTooLarge, SseParser

DATA = st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), max_size=5)


def framed(datas: list[str], end: str) -> bytes:
    return "".join(f"event: x{end}id: 1{end}: a comment{end}data: {data}{end}{end}" for data in datas).encode()


@given(DATA, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_splits_and_line_endings_change_nothing(datas: list[str], end: str, cuts: st.DataObject) -> None:
    stream, parser, found = framed(datas, end), SseParser(), []
    while stream:
        size = cuts.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:size])
        stream = stream[size:]
    found += parser.feed(b"\n")
    assert found == [data.encode() for data in datas]


def test_lines_of_one_event_are_joined() -> None:
    assert SseParser().feed(b"data: a\ndata:b\ndata\n\n") == [b"a\nb\n"]


def test_an_event_without_data_is_ignored() -> None:
    assert SseParser().feed(b": ping\n\nevent: x\n\nretry: 5\n\n") == []


def test_the_data_of_an_unfinished_event_can_be_read() -> None:
    parser = SseParser()
    assert parser.feed(b'data: {"a": 1}\n\nevent: x\ndata: {"b": ') == [b'{"a": 1}']
    assert parser.unfinished == b'{"b": '


def test_a_line_in_many_pieces_is_copied_once() -> None:
    parser = SseParser()
    started = time.process_time()
    for _ in range(20_000):
        assert parser.feed(b"data: " + b"x" * 1_000) == []
    assert time.process_time() - started < 2
    [whole] = parser.feed(b"\n\n")
    assert len(whole) > 20_000_000


def test_an_event_beyond_the_cap_is_refused() -> None:
    parser = SseParser(1_000)
    for _ in range(10):
        assert parser.feed(b"data: " + b"x" * 900 + b"\n\n") == [b"x" * 900]
    parser.feed(b": a comment\n" * 1_000)
    with pytest.raises(EventTooLarge):
        parser.feed(b"data: x\n" * 1_000)
    with pytest.raises(EventTooLarge):
        SseParser(1_000).feed(b"x" * 1_001)
