from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.exact_json import ExactNumber, RepeatedName, dumps, loads, loads_row, loads_whole_numbers

LONG = [
    "123456789012345678901",
    "-123456789012345678901",
    "18446744073709551617",
    "0.1000000000000000055511151231257827",
    "3.14159265358979323846",
    "1e400",
    "-1E+400",
    "1e-400",
    "1e999999999999999999999",
]


@pytest.mark.parametrize("text", LONG)
def test_a_number_keeps_its_digits(text: str) -> None:
    document = f'{{"n":{text},"in":[{{"n":{text}}}]}}'
    value = loads(document)
    assert dumps(value) == document.encode()
    assert str(value["n"]) == text
    assert loads_row(document.encode()) == value


@pytest.mark.parametrize("text", ["1.5", "0.1", "18446744073709551615", "-9223372036854775808", "1e5", "1.10"])
def test_a_number_that_fits_is_a_plain_one(text: str) -> None:
    assert type(loads(text)) in (int, float)
    assert loads(text) == json.loads(text)


def test_an_exact_number_calculates() -> None:
    number = loads("0.1000000000000000055511151231257827")
    assert isinstance(number, ExactNumber)
    assert number + 1 == 1.1
    assert loads("123456789012345678901") + 1 == 123456789012345678902


def test_whole_numbers_are_whole_for_a_schema() -> None:
    assert loads_whole_numbers('{"n": 123456789012345678901, "f": 0.5}') == {"n": 123456789012345678901, "f": 0.5}
    assert type(loads_whole_numbers("0.1000000000000000055511")) is float


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a" : 1, "a": 2}',
        '{"a"\t: 1,\n"a"\n:2}',
        '{"b": [{"a": "x: y", "a": 2}]}',
        '{"a": "he said \\": no", "b" : 1, "b" : 2}',
        '{"a": 0.5, "a": NaN}',
        '{"a": NaN, "a": 1}',
        '{"\\u0061": 1, "a": 2}',
    ],
)
def test_a_name_that_is_repeated_is_refused(line: str) -> None:
    with pytest.raises(RepeatedName):
        loads_row(line.encode())


def test_what_is_no_number_is_null() -> None:
    assert loads_row(b'{"a": NaN, "b": [-Infinity, 1.5]}') == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 01}', b"nan", b'{"a": "\xff"}', b"[" * 2000 + b"1"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads_row(data)


def test_other_values_are_refused_as_before() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})
    with pytest.raises(TypeError):
        dumps({"a": [b"bytes"]})


names = st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(value=values)
def test_documents_come_back(value: Any) -> None:
    for layout in (None, 1):
        text = json.dumps(value, ensure_ascii=False, indent=layout)
        assert loads(text) == value
        assert loads_row(text.encode()) == value
        assert json.loads(dumps(loads(text))) == value


def test_the_order_of_the_fields_can_be_set() -> None:
    assert dumps({"b": 2**70, "a": 1}, option=orjson.OPT_SORT_KEYS) == b'{"a":1,"b":%d}' % 2**70
