"""The columns of typed answers in CSV and Parquet, and their values.

Fields of an object become columns ``output.FIELD``, those of nested objects ``output.FIELD.FIELD``, as deep as the
schema names them. A field that is no single value (a list, one of several types, a recursive object) is one column of
JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import State
from orchestrator.policy.errors.answer_schema import without_fence
from orchestrator.report.columns import Kind
from orchestrator.stores.reads import ResultRecord

__all__ = ["AnswerColumn", "answer_columns", "answer_of", "in_kind", "value_in"]

Schema: TypeAlias = Mapping[str, Any]

_KINDS = {"string": Kind.TEXT, "integer": Kind.COUNT, "number": Kind.NUMBER, "boolean": Kind.FLAG}
_KINDS_OF_CONSTANTS = {str: Kind.TEXT, int: Kind.COUNT, float: Kind.NUMBER, bool: Kind.FLAG}
# Up to here a float is the whole number that was written.
_WHOLE_FLOATS = 2**53


@fast_dataclass(kw_only=False)
class AnswerColumn:
    """One column: the path of its value in an answer, and its kind."""

    path: tuple[str, ...]
    kind: Kind

    @property
    def name(self) -> str:
        """The name in the header: ``output.FIELD``."""
        return ".".join(("output", *self.path))


def answer_of(record: ResultRecord) -> Any:
    """Returns the answer as a value; ``None`` if there is none or it is not JSON (the row then has its error)."""
    if record.state is not State.SUCCEEDED or record.output_text is None:
        return None
    try:
        return exact_json.loads(without_fence(record.output_text))
    except orjson.JSONDecodeError:
        return None


def answer_columns(schema: Schema) -> tuple[AnswerColumn, ...]:
    """Returns the columns of answers that fit a schema; none if it names no fields."""
    columns = tuple(_Columns(schema).of_object(schema, ()))
    if len({column.name for column in columns}) < len(columns):
        # A name with a dot is the same as the path of a nested field; only the outer names are distinct.
        return tuple(AnswerColumn((name,), Kind.JSON) for name in {column.path[0]: None for column in columns})
    return columns


def value_in(answer: Any, column: AnswerColumn) -> Any:
    """Returns the value of a column in an answer, in its kind; ``None`` if there is none.

    What does not fit into a column is left out; the answer's text has it. That is a value that no JSON writer nests
    so deep, and a value of another kind.
    """
    for step in column.path:
        answer = answer.get(step) if isinstance(answer, dict) else None
    return in_kind(answer, column.kind)


def in_kind(value: Any, kind: Kind) -> Any:
    """Returns a value of JSON as one of a kind, with all its digits; ``None`` if it is none of that kind."""
    try:
        return None if value is None else _in_kind(value, kind)
    except (TypeError, ValueError, OverflowError):
        return None


def _in_kind(answer: Any, kind: Kind) -> Any:
    match kind:
        case Kind.COUNT if isinstance(answer, float) and abs(answer) > _WHOLE_FLOATS:
            return str(answer)
        case Kind.COUNT:
            return int(answer)
        case Kind.NUMBER:
            is_exact = isinstance(answer, exact_json.ExactNumber) or (isinstance(answer, int) and _is_long(answer))
            return answer if is_exact else float(answer)
        case Kind.JSON:
            return exact_json.dumps(answer).decode()
        case Kind.TEXT if not isinstance(answer, str):
            return exact_json.dumps(answer).decode()
        case Kind.FLAG if not isinstance(answer, bool):
            return None
        case _:
            return answer


def _is_long(number: int) -> bool:
    return abs(number) > _WHOLE_FLOATS


class _Columns:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def of_object(
        self, schema: Schema, path: tuple[str, ...], seen: frozenset[str] = frozenset()
    ) -> Iterator[AnswerColumn]:
        for name, part in schema.get("properties", {}).items():
            inner, inside = self._single(part, seen)
            if inner.get("type") == "object" and inner.get("properties"):
                yield from self.of_object(inner, (*path, name), inside)
            else:
                yield AnswerColumn((*path, name), _kind(inner))

    def _single(self, schema: Any, seen: frozenset[str]) -> tuple[Schema, frozenset[str]]:
        """Returns the one schema of a value that is not null, with references resolved; for several an empty one."""
        if not isinstance(schema, Mapping):  # true: anything at all
            return {}, seen
        if "$ref" in schema:
            reference = str(schema["$ref"])
            return ({}, seen) if reference in seen else self._single(self._resolved(reference), seen | {reference})
        kinds = schema.get("type")
        alternatives = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if word in schema), None)
        if kinds is None and alternatives is not None:
            others = [part for part in alternatives if part != {"type": "null"}]
            return self._single(others[0], seen) if len(others) == 1 else ({}, seen)
        if isinstance(kinds, list):
            kept = [kind for kind in kinds if kind != "null"]
            return ({**schema, "type": kept[0]} if len(kept) == 1 else {}), seen
        return schema, seen

    def _resolved(self, reference: str) -> Schema:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def _kind(schema: Schema) -> Kind:
    if "type" in schema:
        return _KINDS.get(schema["type"], Kind.JSON)
    constants = [schema["const"]] if "const" in schema else schema.get("enum", ())
    types = {type(constant) for constant in constants if constant is not None}
    return _KINDS_OF_CONSTANTS.get(types.pop(), Kind.JSON) if len(types) == 1 else Kind.JSON
