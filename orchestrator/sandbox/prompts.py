"""What a request says to the model: its texts, their tokens, and the items that ``input_items`` lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from orchestrator.policy.tokens import count_tokens

__all__ = ["Prompt", "list_items", "read_prompt"]

Json: TypeAlias = Any

# What a request and a message cost beside their text, and what a part costs that is no text. The provider's own
# figures vary by model.
_TOKENS_A_REQUEST = 3
_TOKENS_A_MESSAGE = 4
_TOKENS_A_PICTURE = 800
_TOKENS_A_FILE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The instructions, the user's text, and how many input tokens the whole request takes."""

    instructions: str
    text: str
    tokens: int
    has_tool_results: bool


def read_prompt(fields: Mapping[str, Json], earlier: Sequence[Mapping[str, Json]] = ()) -> Prompt:
    """The prompt of a request; ``earlier`` are the items of the conversation that it goes on with."""
    items = [*earlier, *_messages(fields.get("input"))]
    instructions = fields.get("instructions") or ""
    spoken = [text for item in items for text in _texts(item)]
    text = "\n\n".join(text for item in items if item.get("role") != "assistant" for text in _texts(item))
    shapes = [each for each in (fields.get("tools"), (fields.get("text") or {}).get("format")) if each]
    counted = [instructions, *spoken, *(orjson.dumps(each).decode() for each in shapes)]
    tokens = sum(count_tokens(each) for each in counted if each)
    tokens += _TOKENS_A_REQUEST + _TOKENS_A_MESSAGE * (len(items) + bool(instructions))
    tokens += sum(map(_tokens_of_media, items))
    returned = any(item.get("type") == "function_call_output" for item in items)
    return Prompt(instructions=instructions, text=text, tokens=tokens, has_tool_results=returned)


def list_items(value: Json, response_id: str) -> list[dict[str, Json]]:
    """The input as the list of items that the API shows: each with an id, and texts as parts."""
    return [
        _shown(item, f"{response_id.removeprefix('resp_')[:40]}{n:08x}") for n, item in enumerate(_messages(value))
    ]


def _shown(item: Mapping[str, Json], tail: str) -> dict[str, Json]:
    if "role" not in item:
        return {"id": f"item_{tail}", "status": "completed", **item}
    content = item["content"]
    if isinstance(content, str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return {"id": f"msg_{tail}", "type": "message", "status": "completed", **item, "content": content}


def _messages(value: Json) -> list[dict[str, Json]]:
    if value is None:
        return []
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value


def _texts(item: Mapping[str, Json]) -> list[str]:
    """The texts of one item: a message's, or what a tool returned."""
    content = item.get("content") if "role" in item else item.get("output")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _tokens_of_media(item: Mapping[str, Json]) -> int:
    content = item.get("content")
    if not isinstance(content, list):
        return 0
    kinds = [part.get("type") for part in content if isinstance(part, dict)]
    return _TOKENS_A_PICTURE * kinds.count("input_image") + _TOKENS_A_FILE * kinds.count("input_file")
