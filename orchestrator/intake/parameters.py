"""What is known of the fields of ``POST /v1/responses``, and which of them cannot work in a background run.

The list of fields grows monthly, so an unknown one passes through untouched; only names that are known to be
wrong here, and combinations that must fail, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.intake.expressions import is_template
from orchestrator.intake.mistakes import Mistake, did_you_mean

__all__ = [
    "CHECKED_PARAMETERS",
    "LEAST_OUTPUT_TOKENS",
    "PARAMETERS",
    "RESERVED_METADATA",
    "WRONG_PARAMETERS",
    "missing_parameters",
    "parameter_mistakes",
    "parameter_warnings",
]

# Responses API, request body: 16 is the least that is accepted, reasoning included.
LEAST_OUTPUT_TOKENS = 16

# Responses API, metadata: 16 pairs, of which run, key and attempt are ours.
_METADATA_PAIRS = 16 - 3
_METADATA_KEY_LIMIT = 64
_METADATA_VALUE_LIMIT = 512
RESERVED_METADATA = "orchestrator_"

PARAMETERS: dict[str, str] = {
    "background_options": "how soon a background response is wanted: {completion_window: soonest | 2h | 8h}",
    "context_management": "compaction of long contexts: [{type: compaction, compact_threshold: …}]",
    "conversation": "a conversation's id, or {id: …}; not together with previous_response_id",
    "include": "further parts of the output to return, such as reasoning.encrypted_content",
    "input": "the text to answer, or a list of input items",
    "instructions": "what the model should do and how: the system message",
    "max_output_tokens": f"the most tokens of an answer, reasoning included; at least {LEAST_OUTPUT_TOKENS}",
    "max_tool_calls": "the most calls of built-in tools in one response",
    "metadata": f"up to {_METADATA_PAIRS} pairs of text kept with the response, such as {{team: research}}",
    "model": "the model's name, such as gpt-5-mini",
    "moderation": "moderation of input and output: {model: …, policy: …}",
    "parallel_tool_calls": "whether tools may be called in parallel",
    "previous_response_id": "the response that this one goes on from; not together with conversation",
    "prompt": "a stored prompt template: {id: …, version: …, variables: …}",
    "prompt_cache_key": "groups requests onto one prompt cache",
    "prompt_cache_options": "{mode: implicit | explicit, ttl: 30m}",
    "prompt_cache_retention": "in_memory or 24h; deprecated",
    "reasoning": "{effort: none | minimal | low | medium | high | xhigh | max, summary: auto | concise | detailed}",
    "safety_identifier": "a stable, anonymous id of the end user, at most 64 characters",
    "service_tier": "auto, default, flex, scale, priority, fast or ultrafast",
    "temperature": "0 to 2; reasoning models refuse it",
    "text": "{format: {type: text | json_schema | json_object, …}, verbosity: low | medium | high}",
    "tool_choice": "none, auto, required, or one tool such as {type: function, name: …}",
    "tools": "a list of tools such as {type: web_search} or {type: function, name: …, parameters: {…}}",
    "top_logprobs": "how many likely tokens to return at each place, 0 to 20",
    "top_p": "0 to 1; reasoning models refuse it",
    "truncation": "disabled or auto; deprecated",
    "user": "deprecated: use safety_identifier and prompt_cache_key",
}

# Set by the orchestrator in every request, so they are known but need not be written.
_SET_BY_US = ("background", "store", "stream")

WRONG_PARAMETERS: dict[str, str] = {
    "function_call": "use tool_choice: {type: function, name: …}",
    "functions": "use tools: [{type: function, name: …, parameters: {…}}]",
    "max_completion_tokens": "use max_output_tokens",
    "max_tokens": "use max_output_tokens",
    "messages": "use input: a text, or a list of {role: user, content: …}; a system message goes into instructions",
    "n": "one request has one answer; for several, give the row several times",
    "reasoning_effort": "use reasoning: {effort: low}",
    "response_format": "use text: {format: {type: json_schema, name: …, schema: {…}}}",
    "seed": "the Responses API has no seed",
    "stop": "the Responses API has no stop sequences; say in the instructions where to end",
    "stream_options": "answers are fetched by polling; there is no stream",
    "verbosity": "use text: {verbosity: low}",
}


def parameter_mistakes(request: Mapping[str, Any], *, templates: bool = True) -> Iterator[Mistake]:
    """What is wrong with a request; fields are relative to it, and no value of it is repeated.

    With ``templates``, a text that holds a template is not judged: its value is known only with a row.
    """
    for name in request:
        if name in WRONG_PARAMETERS:
            yield Mistake((name,), "the Responses API has no such parameter", WRONG_PARAMETERS[name])
            continue
        check = _CHECKS.get(name)
        if check is None or (templates and isinstance(request[name], str) and is_template(request[name])):
            continue
        yield from check(request[name], request)


def missing_parameters(request: Mapping[str, Any]) -> Iterator[Mistake]:
    """The fields without which no request can be answered; a stored ``prompt`` may supply them."""
    if not request.get("prompt"):
        for name in ("model", "input"):
            if name not in request:
                yield Mistake((name,), "is required", PARAMETERS[name])


def parameter_warnings(request: Mapping[str, Any]) -> Iterator[str]:
    """Fields that are sent as they are, but look like another one misspelt."""
    known = (*PARAMETERS, *_SET_BY_US)
    for name in request:
        if name not in known and name not in WRONG_PARAMETERS and (question := did_you_mean(name, known)):
            yield f"request.{name} is not a field that is known here, and is sent as it is; {question}"


# ── One check for each field that is reasoned about ───────────────────────────────────────────────────────────


def _model(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if not isinstance(value, str) or not value:
        yield Mistake(("model",), "must be the name of a model", "put it in quotes")


def _input(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if not isinstance(value, (str, list)):
        yield Mistake(("input",), "must be text or a list of input items", "a single item must stand in a list")


def _instructions(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is not None and not isinstance(value, str):
        yield Mistake(("instructions",), "must be text", "put it in quotes")


def _max_output_tokens(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < LEAST_OUTPUT_TOKENS:
        yield Mistake(
            ("max_output_tokens",),
            f"must be a whole number of at least {LEAST_OUTPUT_TOKENS}",
            'a column of text becomes a number with: "{{ column | int }}"' if isinstance(value, str) else None,
        )


def _number(name: str) -> Callable[[Any, Mapping[str, Any]], Iterator[Mistake]]:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            hint = (
                'a column of text becomes a number with: "{{ column | float }}"' if isinstance(value, str) else None
            )
            yield Mistake((name,), "must be a number", hint)

    return check


def _metadata(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield Mistake(("metadata",), "must be a mapping of text to text")
        return
    if len(value) > _METADATA_PAIRS:
        yield Mistake(
            ("metadata",), f"may have at most {_METADATA_PAIRS} pairs", "the API allows 16, of which 3 are ours"
        )
    for name, text in value.items():
        if len(name) > _METADATA_KEY_LIMIT:
            yield Mistake(("metadata",), f"a name may have at most {_METADATA_KEY_LIMIT} characters")
        elif name.startswith(RESERVED_METADATA):
            yield Mistake(("metadata", name), f"names that start with {RESERVED_METADATA} are ours", "choose another")
        elif not isinstance(text, str):
            yield Mistake(("metadata", name), "must be text", "put it in quotes")
        elif len(text) > _METADATA_VALUE_LIMIT:
            yield Mistake(("metadata", name), f"may have at most {_METADATA_VALUE_LIMIT} characters")


def _stream(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value:
        yield Mistake(
            ("stream",),
            "cannot be used in a background run: answers are fetched by polling",
            "remove it; a dropped stream can leave a background response queued for good",
        )


def _store(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is False:
        yield Mistake(
            ("store",),
            "must be true: a background response that is not stored cannot be fetched",
            "remove it; store: true is sent with every request",
        )


def _background(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is False:
        yield Mistake(
            ("background",),
            "must be true: every request of a run is a background response",
            "remove it; background: true is sent with every request",
        )


def _previous_response_id(value: Any, request: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is not None and request.get("conversation") is not None:
        yield Mistake(("previous_response_id",), "cannot be used together with conversation", "keep one of the two")


def _background_options(value: Any, request: Mapping[str, Any]) -> Iterator[Mistake]:
    if not isinstance(value, dict):
        yield Mistake(("background_options",), "must be a mapping such as {completion_window: 8h}")
    elif value.get("completion_window") in ("2h", "8h") and request.get("service_tier") in _SPECIAL_TIERS:
        yield Mistake(
            ("background_options", "completion_window"),
            "2h and 8h are for the standard service tier only",
            "remove service_tier, or the window",
        )


_SPECIAL_TIERS = ("flex", "scale", "priority", "fast", "ultrafast")


def _prompt(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value is not None and not isinstance(value, dict):
        yield Mistake(("prompt",), "must name a stored prompt: {id: …}", "the text of a prompt goes into input")


def _prompt_cache_retention(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if value == "in-memory":
        yield Mistake(("prompt_cache_retention",), "must be in_memory or 24h", "write in_memory with an underscore")


def _text(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    form = value.get("format") if isinstance(value, dict) else None
    if isinstance(form, dict) and "json_schema" in form:
        yield Mistake(
            ("text", "format", "json_schema"),
            "is the form of chat completions",
            "put name, schema and strict beside type: {type: json_schema, name: …, schema: {…}, strict: true}",
        )


def _tools(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if not isinstance(value, list):
        yield Mistake(("tools",), "must be a list of tools")
        return
    for index, tool in enumerate(value):
        if not isinstance(tool, dict):
            continue
        if "function" in tool:
            yield Mistake(
                ("tools", index, "function"),
                "is the form of chat completions",
                "put name, parameters and strict beside type: {type: function, name: …, parameters: {…}}",
            )
        elif tool.get("type") == "file_search" and "vector_store_ids" not in tool:
            yield Mistake(("tools", index), "file_search needs vector_store_ids", "add vector_store_ids: [vs_…]")
        elif tool.get("type") == "computer_use":
            yield Mistake(("tools", index, "type"), "there is no tool computer_use", "use type: computer")


def _tool_choice(value: Any, _: Mapping[str, Any]) -> Iterator[Mistake]:
    if isinstance(value, dict) and "function" in value:
        yield Mistake(("tool_choice", "function"), "is the form of chat completions", "use {type: function, name: …}")


_CHECKS: dict[str, Callable[[Any, Mapping[str, Any]], Iterator[Mistake]]] = {
    "background": _background,
    "background_options": _background_options,
    "input": _input,
    "instructions": _instructions,
    "max_output_tokens": _max_output_tokens,
    "metadata": _metadata,
    "model": _model,
    "previous_response_id": _previous_response_id,
    "prompt": _prompt,
    "prompt_cache_retention": _prompt_cache_retention,
    "store": _store,
    "stream": _stream,
    **{name: _number(name) for name in ("temperature", "top_p", "top_logprobs", "max_tool_calls")},
    "text": _text,
    "tool_choice": _tool_choice,
    "tools": _tools,
}

# The fields that are reasoned about; the value of any other one is sent unseen.
CHECKED_PARAMETERS = frozenset(_CHECKS)
