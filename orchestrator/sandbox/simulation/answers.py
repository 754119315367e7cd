"""What the simulated model answers: extracts of the input in the requested format, with a real count of tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.pricing.tokens import count_tokens
from orchestrator.sandbox.sandbox_settings import Tools
from orchestrator.sandbox.simulation.bad_answers import broken_json, off_schema
from orchestrator.sandbox.simulation.function_calls import make_calls, wants_calls
from orchestrator.sandbox.simulation.hosted_tools import (
    HostedUse,
    ask_approval,
    citations_of,
    fee_basis,
    use_hosted_tools,
)
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.prompts import Prompt, pack
from orchestrator.sandbox.simulation.schema_instances import instance_of
from orchestrator.sandbox.simulation.summaries import sentences_asked_for, summarise

__all__ = ["Answer", "answer"]

Json: TypeAlias = Any

_LOGPROBS = "message.output_text.logprobs"
_WORDS = re.compile(r"\s*\S+")
_REFUSAL = "I'm sorry, but I can't help with that."
# The most blocks of 64 reasoning tokens that an effort takes. The provider takes far more, but a rehearsal should
# leave room for the answer under a tight max_output_tokens.
_BLOCK = 64
_BLOCKS = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 8, "xhigh": 16, "max": 32}
# By the fault that cuts an answer off: the share that is left, and the reason given.
_STOPS = {
    "content_filter": (0.25, "content_filter"),
    "incomplete": (0.5, "max_output_tokens"),
    "incomplete_length": (0.5, "length"),
}
_WRONG = ("invalid_json", "wrong_schema")
# At most this many characters of a tool's result are quoted, and words of the prompt in a reasoning summary.
_LONGEST_QUOTE = 10_000
_SUMMARY_WORDS = 30


@fast_dataclass
class Answer:
    """The output items of a response that ran, as JSON, and how it ended.

    ``found_tokens``: the tokens of what hosted tools found, which the model reads in addition to its prompt;
    ``hosted``: the tool use that costs fees.
    """

    output: bytes
    output_tokens: int
    reasoning_tokens: int
    status: str
    found_tokens: int = 0
    hosted: bytes = b"{}"
    error_code: str | None = None
    incomplete_reason: str | None = None
    # Whether this is a complete text answer to the request.
    usable: bool = False


@fast_dataclass(kw_only=False)
class _Draft:
    """The items after the reasoning, their tokens, and why they stop early, if they do."""

    items: Sequence[dict[str, Json]]
    tokens: int
    incomplete_reason: str | None = None
    usable: bool = False


@fast_dataclass
class _Task:
    """One request to answer; ``ending`` is the fault that it ends with."""

    fields: Mapping[str, Json]
    prompt: Prompt
    ending: str | None
    tools: Tools
    tail: str
    rng: Random


def answer(
    fields: Mapping[str, Json],
    prompt: Prompt,
    model: Model,
    *,
    ending: str | None,
    response_id: str,
    seed: int,
    tools: Tools,
) -> Answer:
    """The model's answer to a request; ``ending`` is the fault that it ends with, or None.

    The same seed and request always give the same answer and the same usage.
    """
    if ending is not None and ending.startswith("failed_"):
        code = {"failed_rate_limited": "rate_limit_exceeded"}.get(ending, ending.removeprefix("failed_"))
        return Answer(output=b"[]", output_tokens=0, reasoning_tokens=0, status="failed", error_code=code)
    if (fields.get("prompt_cache_options") or {}).get("prewarm") is True:
        # It only fills the cache: nothing is written.
        return Answer(output=b"[]", output_tokens=0, reasoning_tokens=0, status="completed")
    rng = Random(_digest(seed, prompt))
    tail = response_id.removeprefix("resp_")
    task = _Task(fields=fields, prompt=prompt, ending=ending, tools=tools, tail=tail, rng=rng)
    cap = min(fields.get("max_output_tokens") or model.max_output, model.max_output)
    reasoning = min(_reasoning_tokens(fields, model, ending, rng), cap)
    # Nearly every request offers no tools: skip the work.
    hosted = use_hosted_tools(fields, prompt, tail) if fields.get("tools") and _is_complete(ending) else HostedUse()
    requested = sum(map(count_tokens, _tool_requests(hosted.items)))
    draft = _draft(task, hosted, room=cap - reasoning - requested)
    items = [*_reasoning(task, reasoning), *hosted.items, *draft.items]
    return Answer(
        output=orjson.dumps(items),
        output_tokens=min(cap, reasoning + requested + draft.tokens),
        reasoning_tokens=reasoning,
        status="incomplete" if draft.incomplete_reason else "completed",
        found_tokens=sum(map(count_tokens, hosted.found)),
        hosted=fee_basis(fields, hosted.items) if hosted.items else b"{}",
        incomplete_reason=draft.incomplete_reason,
        usable=draft.usable,
    )


def _is_complete(ending: str | None) -> bool:
    """Whether the response has all the items that it would have without a fault."""
    return ending not in ("empty_output", "refusal", "requires_action")


def _draft(task: _Task, hosted: HostedUse, *, room: int) -> _Draft:
    if task.ending == "empty_output":
        return _Draft([], 0)
    if task.ending == "refusal":
        return _Draft([_message({"type": "refusal", "refusal": _REFUSAL}, task.tail)], count_tokens(_REFUSAL))
    if hosted.stops:
        return _Draft([], 0)
    if room <= 0:
        return _Draft([], 0, "max_output_tokens")
    if task.ending == "requires_action" or (
        task.ending not in _STOPS and wants_calls(task.fields, task.prompt, task.tools)
    ):
        return _calls(task, room)
    text, tokens, reason = _cut_text(task, room)
    part = _output_text(text, citations_of(hosted.items, text), _logprobs(task.fields, text))
    item = _message(part, task.tail, status="incomplete" if reason else "completed")
    wrong = task.ending in _WRONG and _format(task)["type"] != "text"
    return _Draft([item] if text else [], tokens, reason, usable=not reason and not wrong)


def _calls(task: _Task, room: int) -> _Draft:
    """Calls that the client must answer; the last one is cut off if no room is left."""
    calls = make_calls(task.fields, task.prompt, task.tools, ending=task.ending, tail=task.tail, rng=task.rng) or [
        ask_approval(task.fields, task.tail)
    ]
    tokens = 0
    for n, call in enumerate(calls):
        key = "input" if call["type"] == "custom_tool_call" else "arguments"
        name_tokens = count_tokens(call["name"])
        call_tokens = name_tokens + count_tokens(call[key])
        if tokens + call_tokens > room:
            text, cut = _beginning(call[key], max(0, room - tokens - name_tokens))
            return _Draft(
                [*calls[:n], {**call, key: text, "status": "incomplete"}], tokens + cut, "max_output_tokens"
            )
        tokens += call_tokens
    return _Draft(calls, tokens)


def _cut_text(task: _Task, room: int) -> tuple[str, int, str | None]:
    """The answer as text, its tokens, and why it is cut off, if it is."""
    text = _text(task)
    tokens = count_tokens(text)
    share, reason = _STOPS.get(task.ending or "", (1.0, None))
    if reason is None and tokens <= room:
        return text, tokens, None
    return *_beginning(text, min(room, int(tokens * share))), reason or "max_output_tokens"


def _text(task: _Task) -> str:
    """The whole answer in the requested format: what the client's tools returned, then a summary of the prompt."""
    prompt = task.prompt
    results = [each[:_LONGEST_QUOTE] for each in prompt.tool_results]
    first_lines = (each.partition("\n")[0] for each in (prompt.last_message, prompt.text))
    count = sentences_asked_for(prompt.instructions, *first_lines)
    question = prompt.last_message if prompt.earlier_answers else ""
    summary = summarise(prompt.text, count, question=question, already_said=prompt.earlier_answers)
    shape = _format(task)
    if shape["type"] == "text":
        return "\n".join([*results, summary]).strip() or "There is no text to summarise."
    value: Json = {"answer": "\n".join([*results, summary])}
    if shape["type"] == "json_schema":
        value = instance_of(shape["schema"], text="\n".join(results) or summary or prompt.text, rng=task.rng)
    if task.ending == "wrong_schema":
        return off_schema(value, shape.get("schema") or {})
    text = orjson.dumps(value).decode()
    return broken_json(text) if task.ending == "invalid_json" else text


def _format(task: _Task) -> Mapping[str, Json]:
    """The requested format of the text."""
    return (task.fields.get("text") or {}).get("format") or {"type": "text"}


def _beginning(text: str, tokens: int) -> tuple[str, int]:
    """The longest beginning of the text that has at most ``tokens`` tokens, and how many it has."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low], count_tokens(text[:low]) if low else 0


def _output_text(text: str, citations: list[Json], logprobs: list[Json]) -> dict[str, Json]:
    return {"type": "output_text", "text": text, "annotations": citations, "logprobs": logprobs}


def _logprobs(fields: Mapping[str, Json], text: str) -> list[Json]:
    """Log probabilities word by word, if the request asks for them; a real model gives them token by token."""
    if _LOGPROBS not in (fields.get("include") or []):
        return []
    likely = bool(fields.get("top_logprobs"))
    words = ({"token": word, "logprob": -0.25, "bytes": [*word.encode()]} for word in _WORDS.findall(text))
    return [word | {"top_logprobs": [word] if likely else []} for word in words]


def _message(part: dict[str, Json], tail: str, status: str = "completed") -> dict[str, Json]:
    return {"type": "message", "id": f"msg_{tail}", "status": status, "role": "assistant", "content": [part]}


def _tool_requests(items: Iterable[Mapping[str, Json]]) -> Iterable[str]:
    """What the model writes to use hosted tools."""
    for item in items:
        if item["type"].endswith("_call"):
            yield from item.get("queries") or (item.get("code") or item.get("arguments") or item["type"],)


def _reasoning(task: _Task, tokens: int) -> list[dict[str, Json]]:
    """The reasoning item, with as much of the reasoning as the request asks for."""
    if not tokens:
        return []
    item: dict[str, Json] = {"type": "reasoning", "id": f"rs_{task.tail}", "summary": []}
    if (task.fields.get("reasoning") or {}).get("summary"):
        about = " ".join(task.prompt.text.split()[:_SUMMARY_WORDS])
        item["summary"] = [{"type": "summary_text", "text": f"**Reading**\n\nThe text begins: {about}"}]
    if "reasoning.encrypted_content" in (task.fields.get("include") or []):
        item["encrypted_content"] = pack(f"{tokens} tokens of reasoning")
    return [item]


def _reasoning_tokens(fields: Mapping[str, Json], model: Model, ending: str | None, rng: Random) -> int:
    effort = (fields.get("reasoning") or {}).get("effort") or "medium"
    blocks = rng.randint(min(1, _BLOCKS[effort]), _BLOCKS[effort]) if model.reasoning else 0
    # A response without any message has at least some reasoning.
    return _BLOCK * max(blocks, 1 if ending == "empty_output" else 0)


def _digest(seed: int, prompt: Prompt) -> bytes:
    content = "\n".join([str(seed), prompt.instructions, prompt.text, *prompt.tool_results])
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
