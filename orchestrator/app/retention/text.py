"""What was deleted and dropped of a run: in one line for people, as an object for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.report import formatting
from orchestrator.stores.retained import ObjectKind, Retained

__all__ = ["copies_in_words", "retention_object", "retention_words"]

_PLURALS = {
    ObjectKind.RESPONSE: "responses",
    ObjectKind.CONVERSATION: "conversations",
    ObjectKind.FILE: "files",
}


def copies_in_words(deleted: Mapping[ObjectKind, int]) -> str:
    """``60 responses and 2 files``; what there is none of is left out."""
    parts = [
        f"{formatting.count(number)} {_PLURALS[kind] if number != 1 else kind}"
        for kind in ObjectKind
        if (number := deleted.get(kind, 0))
    ]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:]))) or "nothing"


def retention_words(retained: Retained | None) -> str | None:
    """What was deleted and dropped of a run so far; None if nothing was."""
    if retained is None:
        return None
    parts = []
    if retained.deleted:
        parts.append(f"{copies_in_words(retained.deleted)} gone at the provider")
    if retained.inputs_dropped:
        parts.append(f"data of {formatting.count(retained.inputs_dropped)} rows dropped")
    if retained.outputs_dropped:
        parts.append(f"{formatting.count(retained.outputs_dropped)} answers dropped")
    return " · ".join(parts) or None


def retention_object(retained: Retained) -> dict[str, Any]:
    """The same for scripts, with when the results were last exported to a file."""
    return {
        "exported_at": formatting.stamp(retained.exported_at),
        "deleted": {f"{_PLURALS[kind]}": retained.deleted.get(kind, 0) for kind in ObjectKind},
        "unknown": retained.unknown,
        "inputs_dropped": retained.inputs_dropped,
        "outputs_dropped": retained.outputs_dropped,
    }
