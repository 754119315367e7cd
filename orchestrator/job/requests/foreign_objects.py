"""Objects that a request names and orchestrator did not create: they are at one endpoint, and which is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.errors import BadRow

__all__ = ["refuse_foreign"]

_TOP_LEVEL = ("previous_response_id", "conversation", "prompt")
_NESTED = ("file_id", "file_ids", "vector_store_ids", "container")


def refuse_foreign(fields: Mapping[str, Any], where: str) -> None:
    """Raises ``BadRow`` if a request of a config with several endpoints names such an object."""
    found = next((name for name in _TOP_LEVEL if fields.get(name)), None)
    found = found or _nested(fields.get("input")) or _nested(fields.get("tools"))
    if found is not None:
        raise BadRow(
            f"{found} names an object of one endpoint, and the config has several",
            where=where,
            hint="use a config whose provider is the one that has the object",
        )


def _nested(value: Any) -> str | None:
    """The name of the first field below a value that holds an id; a file that is yet to be uploaded is none."""
    if isinstance(value, Mapping):
        named = (name for name in _NESTED if type(value.get(name)) is str or isinstance(value.get(name), list))
        return next(named, None) or next(filter(None, map(_nested, value.values())), None)
    if isinstance(value, list | tuple):
        return next(filter(None, map(_nested, value)), None)
    return None
