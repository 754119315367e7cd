"""Tables of the fields of a file, from the JSON Schema that editors use."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from docs.generator.markdown import code, plain, table

__all__ = ["field_table"]

Schema: TypeAlias = dict[str, Any]

_HEADER = ("Field", "Value", "Default", "Meaning")
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "maxLength": "at most {} characters",
}


@dataclass(frozen=True, slots=True)
class _Field:
    path: str
    schema: Schema
    required: bool


def field_table(schema: Schema, *, without: Collection[str] = (), whole: Collection[str] = ()) -> str:
    """Every field with its dotted path, its values, its default and its meaning.

    Fields in ``without`` and ``whole`` are shown without those below them; those in ``whole`` with their default.
    """
    fields = _Fields(schema, without, whole)
    rows = [
        (code(field.path), fields.value(field.schema), fields.default(field), plain(fields.about(field.schema)))
        for field in fields.walk(schema, "")
    ]
    return table(_HEADER, rows)


class _Fields:
    def __init__(self, schema: Schema, without: Collection[str], whole: Collection[str]) -> None:
        self._definitions: dict[str, Schema] = schema.get("$defs", {})
        self._leaves = {*without, *whole}
        self._whole = whole

    def walk(self, schema: Schema, path: str) -> Iterator[_Field]:
        """Every field; those of an inner mapping follow it."""
        required = schema.get("required", ())
        for name, inner in schema.get("properties", {}).items():
            if "not" in inner:
                continue
            here = f"{path}.{name}" if path else name
            yield _Field(here, inner, name in required)
            if here in self._leaves:
                continue
            for mapping, suffix in self._mappings(inner):
                yield from self.walk(mapping, here + suffix)

    def value(self, schema: Schema) -> str:
        """The values that a field takes, in words."""
        schema = self._resolved(schema)
        if choices := schema.get("enum"):
            return ", ".join(code(_shown(choice)) for choice in choices)
        if "const" in schema:
            return code(_shown(schema["const"]))
        if alternatives := self._alternatives(schema):
            words = [self.value(each) for each in alternatives]
            return " or ".join(dict.fromkeys(words))
        if schema.get("type") == "array":
            return f"list of {self.value(schema.get('items', {}))}"
        if _is_duration(schema):
            return "duration"
        bounds = [words.format(schema[bound]) for bound, words in _BOUNDS.items() if bound in schema]
        return ", ".join([_TYPES.get(schema.get("type", ""), "anything"), *bounds])

    def default(self, field: _Field) -> str:
        if field.required:
            return "required"
        resolved = self._resolved(field.schema)
        if "default" not in field.schema:
            return "" if "properties" in resolved or "default" not in resolved else code(_shown(resolved["default"]))
        default = field.schema["default"]
        # What is empty is shown as nothing; an inner mapping shows its defaults field by field.
        if default in (None, "", [], {}) or (isinstance(default, dict) and field.path not in self._whole):
            return ""
        return code(_length(default) if self.value(field.schema) == "duration" else _shown(default))

    def about(self, schema: Schema) -> str:
        return str(schema.get("description") or self._resolved(schema).get("description") or "")

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" in schema:
            return self._resolved(self._definitions[schema["$ref"].rpartition("/")[2]])
        return schema

    def _alternatives(self, schema: Schema) -> list[Schema]:
        every = [self._resolved(each) for each in schema.get("anyOf") or schema.get("oneOf") or []]
        kept = [each for each in every if each.get("type") != "null"]
        # Amounts and durations may be text or a number; one word covers both.
        plainest = [each for each in kept if _is_duration(each) or each.get("type") == "number"]
        return plainest[:1] if all(each.get("type") in {"string", "number"} for each in kept) and plainest else kept

    def _mappings(self, schema: Schema) -> Iterator[tuple[Schema, str]]:
        """The mappings with known fields in a field, each with the suffix of its path."""
        schema = self._resolved(schema)
        if "properties" in schema:
            yield schema, ""
        for each in self._alternatives(schema):
            yield from self._mappings(each)
        if schema.get("type") == "array":
            yield from ((mapping, "[]") for mapping, _ in self._mappings(schema["items"]))


def _is_duration(schema: Schema) -> bool:
    return "ms|s|m|h" in schema.get("pattern", "")


def _length(seconds: float) -> str:
    """A duration as a file has it: ``1h`` rather than ``3600``."""
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("m", 60), ("s", 1)) if seconds % size == 0)
    return f"{seconds / size:g}{unit}"


def _shown(value: Any) -> str:
    """A value as a file has it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)
