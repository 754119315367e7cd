"""What a request says to the model: its texts, their tokens, and the items that ``input_items`` lists."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from orchestrator.policy.pricing.tokens import estimate_input, token_counter

__all__ = ["Prompt", "list_items", "pack", "read_prompt", "texts_of"]

Json: TypeAlias = Any

_RESULTS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is to answer, and how many input tokens the whole request takes.

    ``text`` is what was said to it, ``asked`` the user's last message, ``said`` what the model has answered before.
    ``since`` are the items that came after the user last spoke, ``results`` the texts that the client's tools
    returned in them, and ``rounds`` how often they have done so. ``items`` is everything.
    """

    instructions: str
    text: str
    asked: str
    said: str
    tokens: int
    items: Sequence[Mapping[str, Json]]
    since: Sequence[Mapping[str, Json]]
    results: Sequence[str]
    rounds: int


def read_prompt(
    fields: Mapping[str, Json],
    earlier: Sequence[Mapping[str, Json]] = (),
    *,
    attached: Callable[[Mapping[str, Json]], Iterable[str]] = lambda _: (),
) -> Prompt:
    """The prompt of a request; ``earlier`` are the items of the conversation that it goes on with.

    ``attached`` reads the files in a message. Their tokens are taken to be what an estimate takes them to be.
    """
    items = [_unpacked(item) for item in (*earlier, *_messages(fields.get("input")))]
    last = _last_word(items)
    since = items[last + 1 :]
    heard = (item for item in items if "role" in item and item["role"] != "assistant")
    said = (item for item in items if item.get("role") == "assistant")
    return Prompt(
        instructions=fields.get("instructions") or "",
        text="\n\n".join(text for item in heard for text in (*texts_of(item), *attached(item))),
        asked="\n".join(texts_of(items[last])) if last >= 0 else "",
        said="\n".join(text for item in said for text in texts_of(item)),
        tokens=estimate_input({**fields, "input": items}, token_counter()),
        items=items,
        since=since,
        results=[text for item in since if item.get("type") in _RESULTS for text in texts_of(item)],
        rounds=sum(1 for returned, _ in groupby(since, lambda item: item.get("type") in _RESULTS) if returned),
    )


def list_items(value: Json, response_id: str) -> list[dict[str, Json]]:
    """The input as the list of items that the API shows: each with an id, and texts as parts."""
    return [
        _shown(item, f"{response_id.removeprefix('resp_')[:40]}{n:08x}") for n, item in enumerate(_messages(value))
    ]


def texts_of(item: Mapping[str, Json]) -> list[str]:
    """The texts of a message, or of what a tool returned."""
    content = item.get("content") if "role" in item else item.get("output")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]


def pack(text: str) -> str:
    """The content of a compaction item, which only the provider can read (here: anybody who decodes it)."""
    return b64encode(text.encode(errors="surrogatepass")).decode()


def _unpacked(item: Mapping[str, Json]) -> Mapping[str, Json]:
    if item.get("type") != "compaction":
        return item
    try:
        text = b64decode(item["encrypted_content"], validate=True).decode(errors="replace")
    except (KeyError, TypeError, ValueError):
        text = ""
    return {"type": "message", "role": "developer", "content": text}


def _last_word(items: Sequence[Mapping[str, Json]]) -> int:
    """The place of the user's last message, or -1."""
    return max((n for n, item in enumerate(items) if item.get("role") == "user"), default=-1)


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
