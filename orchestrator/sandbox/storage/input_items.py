"""Items as the API lists them: each with an id, and texts as parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["input_messages", "list_items"]

Json: TypeAlias = Any


def input_messages(value: Json) -> list[dict[str, Json]]:
    """The ``input`` of a request as a list of items; a string is one message of the user."""
    if value is None:
        return []
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value


def list_items(value: Json, response_id: str) -> list[dict[str, Json]]:
    """The ``input`` of a request as the items that the API lists; their ids begin like the response's id."""
    tail = response_id.removeprefix("resp_")[:40]
    return [_listed(item, f"{tail}{n:08x}") for n, item in enumerate(input_messages(value))]


def _listed(item: Mapping[str, Json], tail: str) -> dict[str, Json]:
    if "role" not in item:
        return {"id": f"item_{tail}", "status": "completed", **item}
    content = item["content"]
    if isinstance(content, str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {"id": f"msg_{tail}", "type": "message", "status": "completed", **item, "content": content}
