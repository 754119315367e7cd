"""What the simulated model answers: extracts of the input, in the shape asked for, with an honest count of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import orjson

from orchestrator.policy.tokens import count_tokens
from orchestrator.sandbox.instances import instance_of
from orchestrator.sandbox.models import Model
from orchestrator.sandbox.prompts import Prompt
from orchestrator.sandbox.summaries import sentences_asked_for, summarise

__all__ = ["Answer", "answer"]

Json: TypeAlias = Any

_REFUSAL = "I'm sorry, but I can't help with that."
# How many blocks of 64 reasoning tokens an effort takes at most; the provider's own figures are far higher, but a
# rehearsal should leave room for the answer under a tight max_output_tokens.
_BLOCK = 64
_BLOCKS = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 8, "xhigh": 16, "max": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The output items of a response that ran, as JSON, and how it ended."""

    output: bytes
    output_tokens: int
    reasoning_tokens: int
    status: str
    error_code: str | None = None
    incomplete_reason: str | None = None
    # Whether this is what the request asked for: a whole answer in text.
    usable: bool = False


@dataclass(frozen=True, slots=True)
class _Draft:
    """What follows the reasoning: one item or none, its tokens, and why it stops early, if it does."""

    item: dict[str, Json] | None
    tokens: int
    incomplete_reason: str | None = None
    usable: bool = False


def answer(
    fields: Mapping[str, Json], prompt: Prompt, model: Model, *, ending: str | None, response_id: str, seed: int
) -> Answer:
    """What the model answers to a request; ``ending`` is the fault that it ends with, or None.

    The same seed and request give the same answer and the same usage, whenever they are sent.
    """
    if ending is not None and ending.startswith("failed_"):
        code = {"failed_rate_limited": "rate_limit_exceeded"}.get(ending, ending.removeprefix("failed_"))
        return Answer(output=b"[]", output_tokens=0, reasoning_tokens=0, status="failed", error_code=code)
    rng = Random(_digest(seed, prompt))
    tail = response_id.removeprefix("resp_")
    cap = min(fields.get("max_output_tokens") or model.max_output, model.max_output)
    thought = min(_reasoning_tokens(fields, model, ending, rng), cap)
    draft = _draft(fields, prompt, ending, room=cap - thought, tail=tail, rng=rng)
    items = [{"type": "reasoning", "id": f"rs_{tail}", "summary": []}] if thought else []
    if draft.item is not None:
        items.append(draft.item)
    return Answer(
        output=orjson.dumps(items),
        output_tokens=thought + draft.tokens,
        reasoning_tokens=thought,
        status="incomplete" if draft.incomplete_reason else "completed",
        incomplete_reason=draft.incomplete_reason,
        usable=draft.usable,
    )


def _draft(
    fields: Mapping[str, Json], prompt: Prompt, ending: str | None, *, room: int, tail: str, rng: Random
) -> _Draft:
    if ending == "empty_output":
        return _Draft(None, 0)
    if ending == "refusal":
        return _Draft(_message({"type": "refusal", "refusal": _REFUSAL}, tail), count_tokens(_REFUSAL))
    if ending == "requires_action" or _wants_call(fields, prompt):
        item = _call(fields, prompt, tail, rng)
        return _Draft(item, count_tokens(item["arguments"]) + count_tokens(item["name"]))
    text = _text(fields, prompt, rng)
    tokens = count_tokens(text)
    if ending == "content_filter":
        return _cut(text, min(room, tokens // 4), tail, "content_filter")
    if ending == "incomplete":
        return _cut(text, min(room, tokens // 2), tail, "max_output_tokens")
    if ending == "incomplete_length":
        return _cut(text, min(room, tokens // 2), tail, "length")
    if tokens > room:
        return _cut(text, room, tail, "max_output_tokens")
    return _Draft(_message(_spoken(text), tail), tokens, usable=True)


def _cut(text: str, tokens: int, tail: str, reason: str) -> _Draft:
    """The longest beginning of the text that has at most so many tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    item = _message(_spoken(text[:low]), tail, status="incomplete") if low else None
    return _Draft(item, count_tokens(text[:low]) if low else 0, reason)


def _text(fields: Mapping[str, Json], prompt: Prompt, rng: Random) -> str:
    first_line = prompt.text.partition("\n")[0]
    summary = summarise(prompt.text, sentences_asked_for(prompt.instructions, first_line))
    shape = (fields.get("text") or {}).get("format") or {"type": "text"}
    match shape["type"]:
        case "json_schema":
            value = instance_of(shape["schema"], text=summary or prompt.text, rng=rng)
        case "json_object":
            value = {"answer": summary}
        case _:
            return summary or "There is no text to summarise."
    return orjson.dumps(value).decode()


def _spoken(text: str) -> dict[str, Json]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(part: dict[str, Json], tail: str, status: str = "completed") -> dict[str, Json]:
    return {"type": "message", "id": f"msg_{tail}", "status": status, "role": "assistant", "content": [part]}


def _functions(fields: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The functions that the request lets the model call."""
    tools = [tool for tool in fields.get("tools") or [] if tool["type"] == "function"]
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "function":
        return [tool for tool in tools if tool["name"] == choice.get("name")]
    return [] if choice == "none" else tools


def _wants_call(fields: Mapping[str, Json], prompt: Prompt) -> bool:
    """A model that may call functions calls one first, and answers when it has the result."""
    return bool(_functions(fields)) and not prompt.has_tool_results


def _call(fields: Mapping[str, Json], prompt: Prompt, tail: str, rng: Random) -> dict[str, Json]:
    """A function call with arguments of the right shape; an MCP approval where the request has no functions."""
    functions = _functions(fields)
    if not functions:
        labels = [tool["server_label"] for tool in fields.get("tools") or [] if tool["type"] == "mcp"]
        label = labels[0] if labels else "sandbox"
        request = {"name": "search", "arguments": "{}", "server_label": label}
        return {"type": "mcp_approval_request", "id": f"mcpr_{tail}", **request}
    function = rng.choice(functions)
    arguments = orjson.dumps(instance_of(function["parameters"], text=prompt.text, rng=rng)).decode()
    identity = {"type": "function_call", "id": f"fc_{tail}", "call_id": f"call_{tail[:24]}", "status": "completed"}
    return {**identity, "name": function["name"], "arguments": arguments}


def _reasoning_tokens(fields: Mapping[str, Json], model: Model, ending: str | None, rng: Random) -> int:
    effort = (fields.get("reasoning") or {}).get("effort") or "medium"
    blocks = rng.randint(min(1, _BLOCKS[effort]), _BLOCKS[effort]) if model.reasoning else 0
    # A response without any message has at least thought.
    return _BLOCK * max(blocks, 1 if ending == "empty_output" else 0)


def _digest(seed: int, prompt: Prompt) -> bytes:
    content = f"{seed}\n{prompt.instructions}\n{prompt.text}"
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
