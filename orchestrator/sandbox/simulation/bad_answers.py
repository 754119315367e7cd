"""Wrong answers, made on purpose: text that is not JSON, JSON that violates its schema, an unknown function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

__all__ = ["UNKNOWN_FUNCTION", "broken_json", "off_schema"]

Json: TypeAlias = Any

UNKNOWN_FUNCTION = "no_such_function"


def broken_json(text: str) -> str:
    """The JSON text, broken so that no parser accepts it."""
    # Half of a container or a string is never valid JSON; half of a number may be.
    return text[: max(1, len(text) // 2)] if text[0] in '{["' else f"{{{text}"


def off_schema(value: Json, schema: Mapping[str, Json]) -> str:
    """The value as JSON that its schema refuses: without a required property, or inside a list."""
    required = schema.get("required")
    if isinstance(value, dict) and isinstance(required, list) and any(name in value for name in required):
        missing = next(name for name in required if name in value)
        return orjson.dumps({name: each for name, each in value.items() if name != missing}).decode()
    return orjson.dumps({"items": value} if isinstance(value, list) else [value]).decode()
