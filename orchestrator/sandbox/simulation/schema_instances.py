"""An instance of a JSON schema, filled from a text: the structured output of the simulated model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

from orchestrator.sandbox.simulation.patterns import matching_text
from orchestrator.sandbox.simulation.summaries import summarise

__all__ = ["UnusableSchema", "instance_of"]

Json: TypeAlias = Any

_DEEPEST = 12
# Numbers as people write them, searched for in this many characters of a text.
_NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,9})?(?!\w)")
_NUMBER_SEARCH_LENGTH = 20_000
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


class UnusableSchema(ValueError):
    """No value can be made for the schema."""


def instance_of(schema: Mapping[str, Json], *, text: str, rng: Random) -> Json:
    """A value that the schema accepts, as far as it uses what structured outputs allow.

    Strings are pieces of ``text``. An enum becomes the value that the text names, a number the next one in the text
    that fits; if there is none, they are random. Raises ``UnusableSchema``.
    """
    try:
        return _Filler(schema, text, rng).fill(schema, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # A schema can be wrong in too many ways to check each; an error on the way through it means that it is wrong.
        raise UnusableSchema(f"{type(error).__name__} while following it") from error


class _Filler:
    def __init__(self, root: Mapping[str, Json], text: str, rng: Random) -> None:
        self._root = root
        self._text = text
        self._lower = text.lower()
        self._words = text.split()
        self._numbers: list[float] | None = None
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
                return int(self._number(schema, whole=True))
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _array(self, schema: Mapping[str, Json], depth: int) -> list[Json]:
        least = schema.get("minItems", 0)
        # A schema that refers to itself ends because deep lists are as short as allowed.
        wanted = least if depth > _DEEPEST // 2 else max(least, self._rng.randint(1, 3))
        count = min(wanted, schema.get("maxItems", wanted))
        firsts = [self.fill(each, depth + 1) for each in schema.get("prefixItems", ())]
        rest = schema.get("items", {"type": "string"})
        if rest is False:
            return firsts
        items = firsts + [self.fill(rest, depth + 1) for _ in range(count - len(firsts))]
        if schema.get("uniqueItems"):
            items = [item for n, item in enumerate(items) if item not in items[:n]]
        return items

    def _number(self, schema: Mapping[str, Json], *, whole: bool) -> float:
        named = self._named_number(schema, whole=whole)
        return self._random_number(schema, whole=whole) if named is None else named

    def _named_number(self, schema: Mapping[str, Json], *, whole: bool) -> float | None:
        """The next number of the text that the schema accepts; each is used once."""
        if self._numbers is None:
            found = _NUMBER.findall(self._text[:_NUMBER_SEARCH_LENGTH])
            self._numbers = [float(each.replace(",", "")) for each in found]
        for number in self._numbers:
            if _fits(number, schema, whole=whole):
                self._numbers.remove(number)
                return number
        return None

    def _random_number(self, schema: Mapping[str, Json], *, whole: bool) -> float:
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0 if high is None else min(0, high - 100)))
        high = low + 100 * schema.get("multipleOf", 1) if high is None else high
        # Between close bounds a fraction is more natural: a share, a probability.
        step = schema.get("multipleOf", 1 if whole or high - low > 10 else 0.01)
        lowest, highest = math.ceil(low / step), math.floor(high / step)
        lowest += "exclusiveMinimum" in schema and lowest * step <= low
        highest -= "exclusiveMaximum" in schema and highest * step >= high
        return float(round(self._rng.randint(lowest, max(lowest, highest)) * step, 9))

    def _string(self, schema: Mapping[str, Json]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if "pattern" in schema and (text := matching_text(schema["pattern"], self._rng)) is not None:
            return text
        piece = self._piece(schema)
        least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
        return piece.ljust(least, ".")[:most]

    def _piece(self, schema: Mapping[str, Json]) -> str:
        """A sentence, where the description asks for one; else a few words."""
        if "sentence" in str(schema.get("description", "")):
            return summarise(self._text, 1) or "text"
        start = self._rng.randrange(max(1, len(self._words) - 6))
        return " ".join(self._words[start : start + 6]) or "text"

    def _choose(self, values: Sequence[Json]) -> Json:
        named = [value for value in values if isinstance(value, str) and value.lower() in self._lower]
        return named[0] if named else self._rng.choice(values)

    def _branch(self, branches: Sequence[Mapping[str, Json]], depth: int) -> Mapping[str, Json]:
        """The first branch; deep in the schema the null branch, which ends the recursion."""
        ends = [branch for branch in branches if branch.get("type") == "null"]
        return ends[0] if ends and depth > _DEEPEST // 2 else branches[0]

    def _resolve(self, reference: str) -> Mapping[str, Json]:
        found: Json = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found[step] if step else found
        return found  # type: ignore[no-any-return]


def _fits(number: float, schema: Mapping[str, Json], *, whole: bool) -> bool:
    if whole and number % 1:
        return False
    return (
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and not number <= schema.get("exclusiveMinimum", number - 1)
        and not number >= schema.get("exclusiveMaximum", number + 1)
        and number % schema.get("multipleOf", number or 1) == 0
    )


def _kind(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    return str(next((each for each in kind if each != "null"), "null") if isinstance(kind, list) else kind)
