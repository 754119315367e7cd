"""Replies that arrive whole, and whose JSON is damaged."""

from __future__ import annotations

import re

__all__ = ["cut_off", "damaged_after_id", "no_response", "with_odd_fields", "with_odd_text"]

_COMPLETED_AT = re.compile(rb'"completed_at":(\d+|null)')


def no_response() -> bytes:
    """JSON of the API that is no response."""
    return b'{"object":"response","message":"ok"}'


def cut_off(body: bytes) -> bytes:
    """The first half of a body."""
    return body[: len(body) // 2]


def damaged_after_id(body: bytes) -> bytes:
    """A body with a byte flipped after its id."""
    place = body.index(b'"object"')
    return body[:place] + b"#" + body[place + 1 :]


def with_odd_text(body: bytes) -> bytes:
    """A body as lenient servers write it: a byte order mark, and characters in texts that JSON does not allow."""
    return b"\xef\xbb\xbf" + body.replace(b'"text":"', b'"text":"\\ud83d \xff\t')


def with_odd_fields(body: bytes) -> bytes:
    """A body with numbers, depths and types that no client expects."""
    deep = b"[" * 300 + b"]" * 300
    body = _COMPLETED_AT.sub(b'"completed_at":' + b"9" * 400, body)
    return body[:-1] + b',"deep":' + deep + b',"background":1e999,"incomplete_details":7,"error":[],"prompt":NaN}'
