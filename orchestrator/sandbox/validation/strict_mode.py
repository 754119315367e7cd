"""What ``strict`` demands of a schema: every object requires all of its properties, and allows no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request

__all__ = ["check_strict"]

Json: TypeAlias = Any
Place: TypeAlias = tuple[str, ...]

# Far deeper than the provider allows, but not too deep for recursion.
_DEEPEST = 100


def check_strict(schema: Mapping[str, Json], name: str) -> None:
    """Raises ``ErrorReply`` (``invalid_json_schema``) for the first object of the schema that is not strict."""
    for place, part in _objects(schema, ()):
        properties = part.get("properties")
        names = list(properties) if isinstance(properties, dict) else []
        required = part.get("required")
        missing = [each for each in names if not isinstance(required, list) or each not in required]
        if part.get("additionalProperties") is not False:
            raise _refused(name, place, "'additionalProperties' is required to be supplied and to be false.")
        if missing:
            wanted = "'required' is required to be supplied and to be an array including every key in properties."
            raise _refused(name, place, f"{wanted} Missing '{missing[0]}'.")


def _objects(part: Json, place: Place) -> Iterator[tuple[Place, Mapping[str, Json]]]:
    """The object schemas in a schema, outermost first."""
    if not isinstance(part, dict) or len(place) > _DEEPEST:
        return
    if part.get("type") == "object" or "properties" in part:
        yield place, part
    for word in ("properties", "$defs", "definitions"):
        inner = part.get(word)
        for key, each in inner.items() if isinstance(inner, dict) else ():
            yield from _objects(each, (*place, word, key))
    yield from _objects(part.get("items"), (*place, "items"))
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        inner = part.get(word)
        for number, each in enumerate(inner if isinstance(inner, list) else ()):
            yield from _objects(each, (*place, word, str(number)))


def _refused(name: str, place: Place, wanted: str) -> ErrorReply:
    where = f"({', '.join(repr(step) for step in place)})"
    message = f"Invalid schema for response_format '{name}': In context={where}, {wanted}"
    return bad_request(message, code="invalid_json_schema", param="text.format.schema")
