"""Ties a request to the turns before it: its own earlier responses, or the earlier rows of its chain.

A response that stopped for function tools, or whose answer must be repaired, is continued by its id: the provider
has everything before it, and only what is new is sent (responses API, ``previous_response_id``). A chain that must
not leave its history at the provider sends it along instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.core import exact_json

__all__ = ["MOST_TURNS", "continuation_of", "in_conversation", "tool_output", "with_continuation", "with_history"]

# A stateless chain reads at most this many earlier turns; ``history_tokens`` leaves out all but the latest anyway.
MOST_TURNS = 1_000


def tool_output(call_id: str, output: str) -> dict[str, Any]:
    """Returns the input item that answers a function call (responses API, "input items")."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def continuation_of(response_id: str, items: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns as JSON what the turn after a response replaces in the create call."""
    return exact_json.dumps({"previous_response_id": response_id, "input": list(items)})


def with_continuation(fields: Mapping[str, Any], continuation: bytes) -> dict[str, Any]:
    """Returns the request of a further turn.

    In a conversation the provider already has the earlier turns, and refuses a ``previous_response_id`` beside it. A
    ``tool_choice`` that forces a call was obeyed in the first turn: if kept, it would force a call in each turn.
    """
    replaced: dict[str, Any] = exact_json.loads(continuation)
    if "conversation" in fields:
        del replaced["previous_response_id"]
    merged = {**fields, **replaced}
    if merged.get("tool_choice") == "required" or isinstance(merged.get("tool_choice"), Mapping):
        merged["tool_choice"] = "auto"
    return merged


def in_conversation(fields: Mapping[str, Any], conversation_id: str) -> dict[str, Any]:
    """Returns the request as the next one of a conversation object."""
    return {**fields, "conversation": conversation_id}


def with_history(fields: Mapping[str, Any], turns: Iterable[tuple[Any, str]], *, most_tokens: int) -> dict[str, Any]:
    """Returns the request with earlier turns in its input: the latest ones that fit into ``most_tokens``.

    ``turns`` are the inputs and answers, the latest first. Their ``instructions`` are not part of the input. System
    and developer messages are kept at any age, because they apply to every later turn.
    """
    kept: list[list[Any]] = []
    left = most_tokens
    full = False
    for asked, answer in turns:
        items = [*_items(asked), {"role": "assistant", "content": answer}]
        if not full and (needs := _tokens(items)) <= left:
            left -= needs
        else:
            full = True
            items = [item for item in items if _is_rule(item)]
        kept.append(items)
    history = [item for items in reversed(kept) for item in items]
    return {**fields, "input": [*history, *_items(fields.get("input"))]}


def _items(asked: Any) -> list[Any]:
    if isinstance(asked, list):
        return asked
    return [{"role": "user", "content": asked}] if asked is not None else []


def _is_rule(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in ("system", "developer")


def _tokens(items: Sequence[Any]) -> int:
    """Estimates the tokens of items, at four bytes a token (responses API, "input_tokens")."""
    return len(exact_json.dumps(items)) // 4 + 1
