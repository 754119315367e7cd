"""Decodes what a server says: strictly first, and leniently only if that fails.

Servers write JSON that the standard does not allow: half of a surrogate pair, a byte order mark, control characters
in texts, bytes that are no UTF-8, numbers that no float can hold. What is readable in spite of that is paid for, so
it is read. Damaged characters become U+FFFD; a number out of range stays as text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["leading_fields", "read_json"]

# The depth to which a document is kept: what is nested deeper becomes null, because no writer of JSON takes it.
_DEEPEST = 100
# A document with fewer brackets than this cannot be too deep.
_FEW_BRACKETS = 200
# Every integer with at most as many digits fits into 64 bits.
_FEW_DIGITS = 18

# To repair a body takes ten times its size in memory.
_LONGEST_REPAIRED = 16 * 2**20
_LONGEST_HEAD = 2**20

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\r\n]*")


def read_json(body: bytes) -> tuple[Any, bytes]:
    """Returns the document in a body, and the body as strict JSON; raises ``ValueError`` if it is unreadable."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_leniently(body)
    if body.count(b"[") + body.count(b"{") > _FEW_BRACKETS and _is_deep(document):
        document = _shallow(document, 0)
        return document, orjson.dumps(document)
    return document, body


def leading_fields(body: bytes) -> Mapping[str, Any]:
    """Returns the fields of a damaged object that are complete and come before the damage, in its first megabyte."""
    text = _text(body[:_LONGEST_HEAD])
    fields: dict[str, Any] = {}
    at = _skip(text, 0)
    if not text.startswith("{", at):
        return fields
    try:
        while True:
            name, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if not isinstance(name, str) or not text.startswith(":", at):
                return fields
            value, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            # A number that the text ends with may be cut off, and a text before the damage may include a part of it.
            if not text.startswith((",", "}"), at):
                whole = at == len(text) and isinstance(value, str | dict | list)
                return fields | {name: _clean(value)} if whole else fields
            fields[name] = _clean(value)
            if text.startswith("}", at):
                return fields
    except (ValueError, RecursionError):
        return fields


def _read_leniently(body: bytes) -> tuple[Any, bytes]:
    if len(body) > _LONGEST_REPAIRED:
        raise ValueError("not JSON, and too large to be repaired")
    try:
        document = _shallow(_DECODER.decode(_text(body).strip()), 0)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        clean = _LONE_SURROGATE.sub("\ufffd", text).encode()
        return orjson.loads(clean), clean
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None


def _text(body: bytes) -> str:
    """Returns the text of a body in any Unicode encoding, without a byte order mark."""
    encoding = json.detect_encoding(body[:4])
    return body.decode("utf-8" if encoding == "utf-8-sig" else encoding, "replace").removeprefix("\ufeff")


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _clean(value: Any) -> Any:
    return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value


def _is_deep(document: Any) -> bool:
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError:
        return True
    return False


def _shallow(value: Any, depth: int) -> Any:
    """Returns a value without what is nested too deep."""
    if isinstance(value, dict):
        return {key: _shallow(each, depth + 1) for key, each in value.items()} if depth < _DEEPEST else None
    if isinstance(value, list):
        return [_shallow(each, depth + 1) for each in value] if depth < _DEEPEST else None
    return value


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _FEW_DIGITS else digits


def _number(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _constant(_: str) -> None:
    """Reads ``NaN`` and ``Infinity``, which are no values that anything here needs."""


_DECODER = json.JSONDecoder(strict=False, parse_int=_integer, parse_float=_number, parse_constant=_constant)
