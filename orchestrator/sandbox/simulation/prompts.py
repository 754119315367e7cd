"""What a request says to the model: its texts, their tokens, and its items."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.pricing.tokens import estimate_input, token_counter
from orchestrator.sandbox.storage.input_items import input_messages

__all__ = ["Prompt", "pack", "read_prompt", "texts_of"]

Json: TypeAlias = Any

_RESULTS = ("function_call_output", "custom_tool_call_output")


@fast_dataclass
class Prompt:
    """What the model must answer, and how many input tokens the whole request takes.

    ``text``: all that was said to the model; ``last_message``: the user's last one; ``earlier_answers``: the model's.
    ``items``: everything; ``new_items``: those after the user's last message; ``tool_results``: the texts that the
    client's tools returned among them, in ``tool_rounds`` rounds.
    """

    instructions: str
    text: str
    last_message: str
    earlier_answers: str
    tokens: int
    items: Sequence[Mapping[str, Json]]
    new_items: Sequence[Mapping[str, Json]]
    tool_results: Sequence[str]
    tool_rounds: int


def read_prompt(
    fields: Mapping[str, Json],
    earlier: Sequence[Mapping[str, Json]] = (),
    *,
    attached: Callable[[Mapping[str, Json]], Iterable[str]] = lambda _: (),
) -> Prompt:
    """The prompt of a request; ``earlier`` are the items of the conversation that it continues.

    ``attached`` reads the text files in a message; their tokens are estimated like those of any file.
    """
    items = [_unpacked(item) for item in (*earlier, *input_messages(fields.get("input")))]
    last = max((n for n, item in enumerate(items) if item.get("role") == "user"), default=-1)
    new_items = items[last + 1 :]
    messages = (item for item in items if "role" in item and item["role"] != "assistant")
    answers = (item for item in items if item.get("role") == "assistant")
    return Prompt(
        instructions=fields.get("instructions") or "",
        text="\n\n".join(text for item in messages for text in (*texts_of(item), *attached(item))),
        last_message="\n".join(texts_of(items[last])) if last >= 0 else "",
        earlier_answers="\n".join(text for item in answers for text in texts_of(item)),
        tokens=estimate_input({**fields, "input": items}, token_counter()),
        items=items,
        new_items=new_items,
        tool_results=[text for item in new_items if item.get("type") in _RESULTS for text in texts_of(item)],
        tool_rounds=sum(
            1 for returned, _ in groupby(new_items, lambda item: item.get("type") in _RESULTS) if returned
        ),
    )


def texts_of(item: Mapping[str, Json]) -> list[str]:
    """The texts of a message or of a tool's output."""
    content = item.get("content") if "role" in item else item.get("output")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]


def pack(text: str) -> str:
    """The content of a compaction item, which stands in for the provider's encryption."""
    return b64encode(text.encode(errors="surrogatepass")).decode()


def _unpacked(item: Mapping[str, Json]) -> Mapping[str, Json]:
    if item.get("type") != "compaction":
        return item
    try:
        text = b64decode(item["encrypted_content"], validate=True).decode(errors="replace")
    except (KeyError, TypeError, ValueError):
        text = ""
    return {"type": "message", "role": "developer", "content": text}
