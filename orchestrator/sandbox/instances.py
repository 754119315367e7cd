"""An instance of a JSON schema, filled from a text: what a model would answer when an answer must have a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

__all__ = ["BadSchema", "instance_of"]

Json: TypeAlias = Any

_DEEPEST = 12
_FORMATS = {
    "date": "2026-11-21",
    "date-time": "2026-11-21T20:00:00Z",
    "time": "20:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class BadSchema(ValueError):
    """The schema is none that a value could be made for."""


def instance_of(schema: Mapping[str, Json], *, text: str, rng: Random) -> Json:
    """A value that the schema accepts, as far as it uses what structured outputs allow.

    Strings are pieces of ``text``; of an enum the value that the text names is taken, else a drawn one. Raises
    ``BadSchema``.
    """
    try:
        return _Filler(schema, text, rng).fill(schema, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # What a schema may hold where is a long list; whatever cannot be followed is wrong.
        raise BadSchema(f"{type(error).__name__} while following it") from error


class _Filler:
    def __init__(self, root: Mapping[str, Json], text: str, rng: Random) -> None:
        self._root = root
        self._text = text
        self._lower = text.lower()
        self._words = text.split()
        self._rng = rng

    def fill(self, schema: Mapping[str, Json], depth: int) -> Json:
        if "$ref" in schema:
            schema = self._resolve(schema["$ref"])
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choose(schema["enum"])
        if depth > _DEEPEST:
            return None
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.fill(self._branch(schema[word], depth), depth + 1)
        if "allOf" in schema:
            merged = {key: value for part in schema["allOf"] for key, value in part.items()}
            return self.fill(merged, depth + 1)
        return self._plain(_kind(schema), schema, depth)

    def _plain(self, kind: str, schema: Mapping[str, Json], depth: int) -> Json:
        match kind:
            case "object":
                return {
                    name: self.fill(part, depth + 1)
                    for name, part in schema.get("properties", {}).items()
                    if depth < _DEEPEST // 2 or name in schema.get("required", ())
                }
            case "array":
                return self._array(schema, depth)
            case "integer":
                return int(self._number(schema))
            case "number":
                return self._number(schema)
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _array(self, schema: Mapping[str, Json], depth: int) -> list[Json]:
        least = schema.get("minItems", 0)
        # A schema that refers to itself ends because deep lists stay as short as they may be.
        wanted = least if depth > _DEEPEST // 2 else max(least, self._rng.randint(1, 3))
        count = min(wanted, schema.get("maxItems", wanted))
        return [self.fill(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def _number(self, schema: Mapping[str, Json]) -> float:
        step = schema.get("multipleOf", 1)
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100 * step))
        steps = int((high - low) // step)
        lowest = 1 if "exclusiveMinimum" in schema else 0
        highest = steps - (1 if "exclusiveMaximum" in schema else 0)
        if highest <= lowest:
            return float(low + high) / 2 if step == 1 and "multipleOf" not in schema else low + lowest * step
        return float(low + self._rng.randint(lowest, highest) * step)

    def _string(self, schema: Mapping[str, Json]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        start = self._rng.randrange(max(1, len(self._words) - 6))
        piece = " ".join(self._words[start : start + 6]) or "text"
        least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
        return piece.ljust(least, ".")[:most]

    def _choose(self, values: Sequence[Json]) -> Json:
        named = [value for value in values if isinstance(value, str) and value.lower() in self._lower]
        return named[0] if named else self._rng.choice(values)

    def _branch(self, branches: Sequence[Mapping[str, Json]], depth: int) -> Mapping[str, Json]:
        """The first branch, or deep inside the one that ends: null."""
        ends = [branch for branch in branches if branch.get("type") == "null"]
        return ends[0] if ends and depth > _DEEPEST // 2 else branches[0]

    def _resolve(self, reference: str) -> Mapping[str, Json]:
        found: Json = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found[step] if step else found
        return found  # type: ignore[no-any-return]


def _kind(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    return str(next((each for each in kind if each != "null"), "null") if isinstance(kind, list) else kind)
