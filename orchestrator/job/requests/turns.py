"""What the next turn of a request is made of, and what a turn of a chain remembers.

A response that stopped for function tools, or whose answer is to be mended, is gone on from by its id: the model
has all that went before in mind, and only what is new is sent (responses API, ``previous_response_id``). A chain
that must not leave its history with the provider carries it along instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

__all__ = [
    "answer_of_tool",
    "cache_key",
    "fingerprint",
    "go_on",
    "going_on",
    "in_conversation",
    "with_history",
]

# What says whose a request is, and not what is asked.
_NOT_ASKED = ("metadata", "safety_identifier", "user", "prompt_cache_key")
# What comes before a row's own text, in the order in which the model reads it.
_PREFIX = ("model", "tools", "text", "instructions")


def answer_of_tool(call_id: str, output: str) -> dict[str, Any]:
    """The input item that answers a function call (responses API, "input items")."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def go_on(response_id: str, items: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON of what the next turn replaces in the create call."""
    return orjson.dumps({"previous_response_id": response_id, "input": list(items)})


def going_on(fields: Mapping[str, Any], continuation: bytes) -> dict[str, Any]:
    """The request of a further turn.

    In a conversation the provider has the turns before in any case, and takes no ``previous_response_id`` with it. A
    ``tool_choice`` that forces a call was obeyed in the first turn: kept, it would force one for ever.
    """
    replaced: dict[str, Any] = orjson.loads(continuation)
    if "conversation" in fields:
        del replaced["previous_response_id"]
    merged = {**fields, **replaced}
    if merged.get("tool_choice") == "required" or isinstance(merged.get("tool_choice"), Mapping):
        merged["tool_choice"] = "auto"
    return merged


def in_conversation(fields: Mapping[str, Any], conversation_id: str) -> dict[str, Any]:
    """The request as the next one of a conversation object."""
    return {**fields, "conversation": conversation_id}


def with_history(fields: Mapping[str, Any], turns: Iterable[tuple[Any, str]], *, most_tokens: int) -> dict[str, Any]:
    """The request with the turns before it in its input, the latest ones that fit into ``most_tokens``.

    ``turns`` are the inputs and answers, the latest first. ``instructions`` are no part of the input, and system and
    developer messages of the turns are kept whatever their age: they hold for all that follows.
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
            items = [item for item in items if _rules(item)]
        kept.append(items)
    history = [item for items in reversed(kept) for item in items]
    return {**fields, "input": [*history, *_items(fields.get("input"))]}


def fingerprint(fields: Mapping[str, Any], *, provider: str) -> bytes:
    """Sixteen bytes that are equal for requests that ask the same of the same provider."""
    asked = {name: value for name, value in fields.items() if name not in _NOT_ASKED}
    encoded = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=16, key=_key_of(provider)).digest()


@lru_cache
def _key_of(provider: str) -> bytes:
    return hashlib.blake2b(provider.encode()).digest()


def cache_key(fields: Mapping[str, Any]) -> str:
    """A ``prompt_cache_key`` for the requests that begin alike: same model, tools, format and instructions."""
    prefix = orjson.dumps([fields.get(name) for name in _PREFIX])
    return f"prefix-{hashlib.blake2b(prefix, digest_size=12).hexdigest()}"


def _items(asked: Any) -> list[Any]:
    if isinstance(asked, list):
        return asked
    return [{"role": "user", "content": asked}] if asked is not None else []


def _rules(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in ("system", "developer")


def _tokens(items: Sequence[Any]) -> int:
    """Roughly what items take, at four bytes a token (responses API, "input_tokens")."""
    return len(orjson.dumps(items)) // 4 + 1
