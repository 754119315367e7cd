"""Checks whether a text is the JSON that a job asked for, and says where it is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.core import exact_json

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

__all__ = ["AnswerSchema", "BadSchema", "asked_schema", "without_fence"]

# The user and, for a repair, the model see only the first flaws of an answer, each cut to a maximum length.
_MOST_REPORTED = 3
_LONGEST_REASON = 200
_LONGEST_PLACE = 100
# The validator finds all flaws before it reports the first, which can take minutes for a long answer.
_LONGEST_WITH_ALL_FLAWS = 100_000
_FENCE = "```"

# Replaces every value of an answer in messages: an answer may repeat its prompt.
_MASK = "the value"


class BadSchema(ValueError):
    """Not a JSON Schema that answers can be checked against; ``path`` leads to the error in it."""

    def __init__(self, reason: str, path: Sequence[str | int] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = tuple(path)


class AnswerSchema:
    """The JSON Schema of a job's answers, compiled once; raises ``BadSchema``.

    References must stay within the schema: nothing is fetched.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # Compiled code of 15 MB, which only jobs with a schema need.
        from jsonschema_rs import ValidationError, validator_for

        try:
            self._validator = validator_for(dict(schema), mask=_MASK, offline=True)
        except ValidationError as error:
            raise BadSchema(_short(error.message, _LONGEST_REASON), error.instance_path) from None
        except ValueError as error:
            raise BadSchema(_short(str(error), _LONGEST_REASON)) from None

    def flaw(self, text: str) -> str | None:
        """Returns what is wrong in a text and where, without repeating a value; None if it is such an answer."""
        try:
            value = exact_json.loads_whole_numbers(text)
        except orjson.JSONDecodeError as error:
            return f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        if self._validator.is_valid(value):
            return None
        errors = list(islice(self._errors(value, text), _MOST_REPORTED + 1))
        reported = [
            f"{_place(error.instance_path)}: {_short(error.message, _LONGEST_REASON)}"
            for error in errors[:_MOST_REPORTED]
        ]
        return "; ".join(reported) + ("; and more" if len(errors) > _MOST_REPORTED else "")

    def _errors(self, value: Any, text: str) -> Iterator[ValidationError]:
        if len(text) <= _LONGEST_WITH_ALL_FLAWS:
            yield from self._validator.iter_errors(value)
            return
        from jsonschema_rs import ValidationError

        try:
            self._validator.validate(value)
        except ValidationError as error:
            yield error


def without_fence(text: str) -> str:
    """Returns the inside of an answer that is one block of code, as models write JSON; any other text as it is."""
    block = text.strip()
    if not (block.startswith(_FENCE) and block.endswith(_FENCE) and len(block) >= 2 * len(_FENCE)):
        return text
    first, line_break, rest = block[len(_FENCE) : -len(_FENCE)].partition("\n")
    return rest if line_break and (not first.strip() or first.strip().isalnum()) else f"{first}{line_break}{rest}"


def asked_schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the schema that a request asks for: any object for ``json_object``, None for plain text."""
    text = request.get("text")
    shape = text.get("format") if isinstance(text, Mapping) else None
    if not isinstance(shape, Mapping):
        return None
    if shape.get("type") == "json_object":
        return {"type": "object"}
    schema = shape.get("schema")
    return schema if shape.get("type") == "json_schema" and isinstance(schema, Mapping) else None


def _place(path: Iterable[str | int]) -> str:
    """Returns a path as text: ``people[2].name``."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return _short(words.removeprefix("."), _LONGEST_PLACE) or "the whole"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
