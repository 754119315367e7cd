"""JSON whose numbers keep their digits: integers beyond 64 bits, and decimals that no float holds.

A document is decoded the fast way first, and once more only if it holds a number that may have lost digits.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Self

import jiter
import orjson

__all__ = ["ExactNumber", "RepeatedName", "dumps", "loads", "loads_row", "loads_whole_numbers"]

_INTEGERS = range(-(2**63), 2**64)
# From here on the fast decoder turns whole numbers into floats.
_LEAST_ROUNDED = float(2**63)


class RepeatedName(ValueError):
    """An object has two fields of the same name, so that one of them would be lost."""


class ExactNumber(float):
    """A number with more digits than a float holds. It calculates as a float, and its text is as it was written."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def loads(data: bytes | str) -> Any:
    """Returns a document with all digits of its numbers; raises ``ValueError``."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _decoded_or(error, data)
    _, has_floats = _survey(value)
    if not has_floats:
        return value
    try:
        return _decoded(_encoded(data))
    except ValueError:  # nested deeper than the exact decoder goes
        return value


def loads_row(data: bytes) -> Any:
    """Returns a document of an input file: with all digits, ``NaN`` and ``Infinity`` as null.

    Raises ``RepeatedName`` for an object with two fields of one name, and ``ValueError`` for what is not JSON.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _decoded_or(error, data, of_row=True)
    if type(value) is dict:
        kinds = [*map(type, value.values())]
        is_flat = float not in kinds and dict not in kinds and list not in kinds
        if is_flat and 2 * (len(value) + kinds.count(str)) == data.count(b'"'):
            return value
    quotes, has_floats = _survey(value)
    if has_floats or (quotes != data.count(b'"') and quotes != _quotes_of(data)):
        return _decoded(data, of_row=True)
    return value


def _quotes_of(data: bytes) -> int | None:
    """Returns how many quotation marks a document has around its texts; None if that is not certain."""
    return None if b"\\\\" in data else data.count(b'"') - data.count(b'\\"')


def loads_whole_numbers(text: str) -> Any:
    """Returns a document with plain floats, but with whole numbers of any size; raises ``ValueError``."""
    value = orjson.loads(text)
    if not _has_rounded(value):
        return value
    try:
        return jiter.from_json(text.encode())
    except ValueError:
        return value


def dumps(value: Any, *, option: int | None = None) -> bytes:
    """Returns a value as JSON, each number with all its digits; raises ``TypeError``."""
    try:
        return orjson.dumps(value, default=_digits, option=option)
    except orjson.JSONEncodeError:
        fragments, found = _with_fragments(value)
        if not found:
            raise
        return orjson.dumps(fragments, default=_digits, option=option)


def _digits(value: Any) -> orjson.Fragment:
    if isinstance(value, ExactNumber):
        return orjson.Fragment(value.text)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _survey(value: Any) -> tuple[int, bool]:
    """Returns how many quotation marks the names and texts of a document need, and whether it holds a float.

    A document with a repeated name has more of them, because the fast decoder keeps the last field only.
    """
    texts, has_floats = 0, False
    todo: list[Any] = [(value,)]
    while todo:
        each = todo.pop()
        if type(each) is dict:
            texts += len(each)
            each = each.values()
        for inner in each:
            kind = type(inner)
            if kind is str:
                texts += 1
            elif kind is float:
                has_floats = True
            elif kind is dict or kind is list:
                todo.append(inner)
    return 2 * texts, has_floats


def _has_rounded(value: Any) -> bool:
    todo: list[Any] = [(value,)]
    while todo:
        each = todo.pop()
        for inner in each.values() if type(each) is dict else each:
            if type(inner) is float:
                if abs(inner) >= _LEAST_ROUNDED:
                    return True
            elif type(inner) in (dict, list):
                todo.append(inner)
    return False


def _encoded(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _decoded_or(error: orjson.JSONDecodeError, data: bytes | str, *, of_row: bool = False) -> Any:
    """Returns a document that only the exact decoder takes, because a number is larger than any float."""
    try:
        return _decoded(_encoded(data), of_row=of_row)
    except RepeatedName:
        raise
    except ValueError:
        raise error from None


def _decoded(data: bytes, *, of_row: bool = False) -> Any:
    try:
        value = jiter.from_json(data, float_mode="lossless-float", catch_duplicate_keys=of_row, allow_inf_nan=of_row)
    except ValueError as error:
        if "duplicate key" in str(error):
            raise RepeatedName from None
        raise
    return _settled(value)


def _settled(value: Any) -> Any:
    """Returns a decoded value with floats where they are exact, and null for what is no number."""
    match value:
        case dict():
            return {name: _settled(inner) for name, inner in value.items()}
        case list():
            return [_settled(inner) for inner in value]
        case jiter.LosslessFloat():
            return _number(str(value))
    return value


def _number(text: str) -> float | None:
    number = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent of very many digits
        return ExactNumber(text)
    if not exact.is_finite():
        return None
    return number if Decimal(repr(number)) == exact else ExactNumber(text)


def _with_fragments(value: Any) -> tuple[Any, bool]:
    """Returns a value with its integers beyond 64 bits as written JSON, and whether it has any."""
    match value:
        case dict():
            pairs = {name: _with_fragments(inner) for name, inner in value.items()}
            return {name: inner for name, (inner, _) in pairs.items()}, any(found for _, found in pairs.values())
        case list() | tuple():
            items = [_with_fragments(inner) for inner in value]
            return [inner for inner, _ in items], any(found for _, found in items)
        case int() if value not in _INTEGERS:
            return orjson.Fragment(str(value)), True
    return value, False
