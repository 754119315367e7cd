"""What stands in a row for an answer that there is not yet: pure, over the schema of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["stand_in_text"]

_DEEPEST = 8
_EMPTY: Mapping[str, Any] = {
    "object": {},
    "array": [],
    "number": 0,
    "integer": 0,
    "boolean": False,
    "null": None,
    "string": "",
}


def stand_in_text(schema: Mapping[str, Any] | None) -> str:
    """The shortest text that an answer may be: none, or JSON with every field of the schema and empty values."""
    return "" if schema is None else orjson.dumps(_stand_in(schema, schema, _DEEPEST)).decode()


def _stand_in(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several) and depth:
            return _stand_in(schema[several][0], root, depth - 1)
    if isinstance(schema.get("properties"), Mapping) and depth:
        return {name: _stand_in(each, root, depth - 1) for name, each in schema["properties"].items()}
    kind = schema.get("type")
    return _EMPTY.get(kind[0] if isinstance(kind, list) and kind else str(kind), "")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference within the same document leads to; an empty one if it leads nowhere."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found: Any = root
        for name in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(name, {}) if name and isinstance(found, Mapping) else found
        schema = found if isinstance(found, Mapping) else {}
    return {}
