"""What a model gets wrong, made on purpose: text that is no JSON, JSON of another shape, an unknown function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

__all__ = ["UNKNOWN_FUNCTION", "broken_json", "misshapen"]

Json: TypeAlias = Any

UNKNOWN_FUNCTION = "no_such_function"


def broken_json(text: str) -> str:
    """The JSON text, spoilt so that no parser takes it."""
    # The beginning of a container or a string is never whole; of a number it may be.
    return text[: max(1, len(text) // 2)] if text[0] in '{["' else f"{{{text}"


def misshapen(value: Json, schema: Mapping[str, Json]) -> str:
    """The value as JSON that its schema refuses: without a property that is required, or inside a list."""
    required = schema.get("required")
    if isinstance(value, dict) and isinstance(required, list) and any(name in value for name in required):
        missing = next(name for name in required if name in value)
        return orjson.dumps({name: each for name, each in value.items() if name != missing}).decode()
    return orjson.dumps({"items": value} if isinstance(value, list) else [value]).decode()
