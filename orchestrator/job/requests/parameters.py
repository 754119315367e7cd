"""What is known about the fields of ``POST /v1/responses``, and which of them cannot work in a background run.

The list of fields grows monthly, so an unknown one passes through untouched; only names that are known to be
wrong here, and combinations that must fail, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from orchestrator.job.documents.validation_problems import ValidationProblem, did_you_mean
from orchestrator.job.requests.expressions import is_template
from orchestrator.job.requests.field_checks import CHECKS, LEAST_OUTPUT_TOKENS, METADATA_PAIRS, RESERVED_METADATA

__all__ = [
    "CHECKED_PARAMETERS",
    "LEAST_OUTPUT_TOKENS",
    "PARAMETERS",
    "RESERVED_METADATA",
    "WRONG_PARAMETERS",
    "missing_parameters",
    "parameter_problems",
    "parameter_warnings",
    "store_problems",
]

# The fields that are reasoned about; the value of any other one is sent unseen.
CHECKED_PARAMETERS = frozenset(CHECKS)

PARAMETERS: dict[str, str] = {
    "background_options": "how soon a background response is wanted: {completion_window: soonest | 2h | 8h}",
    "context_management": "compaction of long contexts: [{type: compaction, compact_threshold: …}]",
    "conversation": "a conversation's id, or {id: …}; not together with previous_response_id",
    "include": "further parts of the output to return, such as reasoning.encrypted_content",
    "input": "the text to answer, or a list of input items",
    "instructions": "what the model should do and how: the system message",
    "max_output_tokens": f"the most tokens of an answer, reasoning included; at least {LEAST_OUTPUT_TOKENS}",
    "max_tool_calls": "the most calls of built-in tools in one response",
    "metadata": f"up to {METADATA_PAIRS} pairs of text kept with the response, such as {{team: research}}",
    "model": "the model's name, such as gpt-6.1-terra",
    "moderation": "moderation of input and output: {model: …, policy: …}",
    "parallel_tool_calls": "whether tools may be called in parallel",
    "previous_response_id": "the response that this one continues; not together with conversation",
    "prompt": "a stored prompt template: {id: …}; OpenAI ended these on 2026-11-30",
    "prompt_cache_key": "groups requests onto one prompt cache",
    "prompt_cache_options": "{mode: implicit | explicit, ttl: 30m | 12h}; 12h costs twice the price of input",
    "prompt_cache_retention": "in_memory or 24h; deprecated",
    "reasoning": "{effort: none | minimal | low | medium | high | xhigh | max, summary: auto | concise | detailed}",
    "safety_identifier": "a stable, anonymous id of the end user, at most 128 characters",
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

# Families of models that reason, but for their chat variants.
_REASONING_MODEL = re.compile(r"(?:gpt-[5-9](?!.*-chat)|o[1-9])")

WRONG_PARAMETERS: dict[str, str] = {
    "extra_body": "write its fields straight under request: a field that is not known is sent as it is",
    "extra_headers": "use provider.headers of the config",
    "extra_query": "use provider.query of the config",
    "function_call": "use tool_choice: {type: function, name: …}",
    "functions": "use tools: [{type: function, name: …, parameters: {…}}]",
    "logprobs": "use top_logprobs: 5 and include: [message.output_text.logprobs]",
    "max_completion_tokens": "use max_output_tokens",
    "max_tokens": "use max_output_tokens",
    "messages": "use input: a text, or a list of {role: user, content: …}; a system message goes into instructions",
    "n": "one request has one answer; for several, give the row several times",
    "reasoning_effort": "use reasoning: {effort: low}",
    "response_format": "use text: {format: {type: json_schema, name: …, schema: {…}}}",
    "stop": "the Responses API has no stop sequences; say in the instructions where to end",
    "stream_options": "remove it: a stream (stream: true beside request) is read as it is, and needs no options",
    "text_format": "use output_model: package.module:Class, beside request",
    "timeout": "use timeouts of the config",
    "verbosity": "use text: {verbosity: low}",
    "web_search_options": "use tools: [{type: web_search}]",
}


def parameter_problems(
    request: Mapping[str, Any], *, names: Collection[str] | None = None, templates: bool = True
) -> Iterator[ValidationProblem]:
    """What is wrong with a request; fields are relative to it, and no value of it is repeated.

    ``names`` are the fields to look at (all, without it). With ``templates``, a text that holds a template is not
    judged: its value is known only with a row.
    """
    for name in request if names is None else names:
        if name in WRONG_PARAMETERS:
            yield ValidationProblem((name,), "the Responses API has no such parameter", WRONG_PARAMETERS[name])
            continue
        check = CHECKS.get(name)
        if check is None or (templates and isinstance(request[name], str) and is_template(request[name])):
            continue
        yield from check(request[name], request)


def missing_parameters(request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    """The fields without which no request can be answered; a stored ``prompt`` may supply them."""
    if not request.get("prompt"):
        for name in ("model", "input"):
            if name not in request:
                yield ValidationProblem((name,), "is required", PARAMETERS[name])


def store_problems(request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    """``store: false``, which only a provider can be asked that says in the config that it works there."""
    if request.get("store") is False:
        yield ValidationProblem(
            ("store",),
            "must be true: a background response that is not stored cannot be fetched",
            "remove it, or set provider.store: optional in the config if the provider keeps such a response",
        )


def _of_the_model(request: Mapping[str, Any]) -> Iterator[str]:
    """Fields that the request's model refuses."""
    model, reasoning = request.get("model"), request.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if not isinstance(model, str) or not _REASONING_MODEL.match(model) or effort == "none":
        return
    for name in ("temperature", "top_p"):
        if request.get(name) is not None:
            yield f"request.{name} is refused by models that reason, such as {model}; remove it"


def parameter_warnings(request: Mapping[str, Any]) -> Iterator[str]:
    """Fields that are sent as they are, but look like another one misspelt, or like a slip."""
    yield from _of_the_model(request)
    if request.get("prompt"):
        yield "request.prompt names a stored prompt, and OpenAI ended these on 2026-11-30: write its text into input"
    if "seed" in request:
        yield "request.seed is no field of OpenAI's Responses API, which refuses it; some other servers take it"
    known = (*PARAMETERS, *_SET_BY_US, "seed")
    for name in request:
        if name not in known and name not in WRONG_PARAMETERS and (question := did_you_mean(name, known)):
            yield f"request.{name} is not a field that is known here, and is sent as it is; {question}"
    conversation = request.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str) and not is_template(conversation):
        yield "request.conversation is the same for all rows, so that they are answered one at a time"
