"""One check for each request field that is reasoned about: what the Responses API would refuse, said beforehand.

A check gets the field's value and the whole request, and yields mistakes with paths relative to the request. It
judges only what is known to fail: lists of allowed words grow monthly, so an unknown word is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from orchestrator.job.documents.validation_problems import FieldPath, ValidationProblem
from orchestrator.job.requests.expressions import is_template

__all__ = ["CHECKS", "LEAST_OUTPUT_TOKENS", "METADATA_PAIRS", "RESERVED_METADATA"]

Check: TypeAlias = Callable[[Any, Mapping[str, Any]], Iterator[ValidationProblem]]

# Responses API, request body: 16 is the least that is accepted, reasoning included.
LEAST_OUTPUT_TOKENS = 16

# Responses API, metadata: 16 pairs, of which run, key and attempt are ours.
METADATA_PAIRS = 16 - 3
_METADATA_KEY_LIMIT = 64
_METADATA_VALUE_LIMIT = 512
RESERVED_METADATA = "orchestrator_"

_FORMAT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SAFETY_IDENTIFIER_LIMIT = 128
_SPECIAL_TIERS = ("flex", "scale", "priority", "fast", "ultrafast")
_CHAT = "is the form of chat completions"

# What the content parts of chat completions are called here (responses API, input items).
_CHAT_PARTS = {
    "text": "use type: input_text (output_text in an assistant's message)",
    "image_url": "use {type: input_image, image_url: …}",
    "file": "use {type: input_file, file_id: …}",
    "input_audio": "the Responses API takes text, images and files",
}

# The fields without which a tool is refused (responses API, tools).
_TOOL_NEEDS: dict[str, tuple[str, ...]] = {
    "function": ("name",),
    "custom": ("name",),
    "file_search": ("vector_store_ids",),
    "code_interpreter": ("container",),
    "mcp": ("server_label",),
    "computer_use_preview": ("environment", "display_width", "display_height"),
}
_TOOL_EXAMPLES = {
    "vector_store_ids": "[vs_…]",
    "container": "{type: auto}",
    "environment": "browser",
    "display_width": "1024",
    "display_height": "768",
}


def _text_of(name: str, hint: str | None = "put it in quotes", *, most: int | None = None) -> Check:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is None:
            return
        if not isinstance(value, str):
            yield ValidationProblem((name,), "must be text", hint)
        elif most is not None and len(value) > most:
            yield ValidationProblem((name,), f"may have at most {most} characters")

    return check


def _number_of(name: str, low: float, high: float) -> Check:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            hint = 'a column of text becomes a number with: "{{ column | float }}"'
            yield ValidationProblem((name,), "must be a number", hint if isinstance(value, str) else None)
        elif not low <= value <= high:
            yield ValidationProblem((name,), f"must be from {low:g} to {high:g}")

    return check


def _count_of(name: str, least: int, most: int | None = None) -> Check:
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"

    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is None:
            return
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            hint = 'a column of text becomes a number with: "{{ column | int }}"'
            yield ValidationProblem(
                (name,), f"must be a whole number {allowed}", hint if isinstance(value, str) else None
            )

    return check


def _flag_of(name: str) -> Check:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is not None and not isinstance(value, bool):
            yield ValidationProblem(
                (name,), "must be true or false", "leave the quotes out" if value in _WORDS else None
            )

    return check


_WORDS = ("true", "false", "True", "False")


def _mapping_of(name: str, example: str) -> Check:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is not None and not isinstance(value, dict):
            yield ValidationProblem((name,), f"must be a mapping such as {example}")

    return check


def _list_of(name: str, example: str) -> Check:
    def check(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
        if value is not None and not isinstance(value, list):
            yield ValidationProblem((name,), f"must be a list such as {example}")

    return check


def _model(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if not isinstance(value, str) or not value:
        yield ValidationProblem(("model",), "must be the name of a model", "put it in quotes")


# ── What is asked ─────────────────────────────────────────────────────────────────────────────────────────────


def _input(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        yield ValidationProblem(
            ("input",), "must be text or a list of input items", "a single item must stand in a list"
        )
        return
    for index, item in enumerate(value):
        yield from _item(item, ("input", index))


def _item(item: Any, path: FieldPath) -> Iterator[ValidationProblem]:
    if _is_left_to_the_row(item):
        return
    if not isinstance(item, dict):
        yield ValidationProblem(
            path, "must be an input item such as {role: user, content: …}", "a text alone must not be in a list"
        )
        return
    if item.get("role") in ("tool", "function"):
        hint = "use {type: function_call_output, call_id: …, output: …}"
        yield ValidationProblem((*path, "role"), _CHAT, hint)
    elif "tool_calls" in item:
        yield ValidationProblem(
            (*path, "tool_calls"), _CHAT, "each call is an item of its own: {type: function_call, …}"
        )
    elif "role" in item and "content" not in item:
        yield ValidationProblem(path, "needs content", "add content: a text, or a list of parts")
    content = item.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _CHAT_PARTS:
            yield ValidationProblem((*path, "content", index, "type"), _CHAT, _CHAT_PARTS[kind])


def _prompt(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is not None and (not isinstance(value, dict) or "id" not in value):
        yield ValidationProblem(
            ("prompt",), "must name a stored prompt: {id: …}", "the text of a prompt goes into input"
        )


def _metadata(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield ValidationProblem(("metadata",), "must be a mapping of text to text")
        return
    if len(value) > METADATA_PAIRS:
        yield ValidationProblem(
            ("metadata",), f"may have at most {METADATA_PAIRS} pairs", "the API allows 16, of which 3 are ours"
        )
    for name, text in value.items():
        if len(name) > _METADATA_KEY_LIMIT:
            yield ValidationProblem(("metadata",), f"a name may have at most {_METADATA_KEY_LIMIT} characters")
        elif name.startswith(RESERVED_METADATA):
            yield ValidationProblem(
                ("metadata", name), f"names that start with {RESERVED_METADATA} are ours", "choose another"
            )
        elif not isinstance(text, str):
            yield ValidationProblem(("metadata", name), "must be text", "put it in quotes")
        elif len(text) > _METADATA_VALUE_LIMIT:
            yield ValidationProblem(("metadata", name), f"may have at most {_METADATA_VALUE_LIMIT} characters")


# ── How it is carried out ─────────────────────────────────────────────────────────────────────────────────────


def _stream(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value:
        yield ValidationProblem(
            ("stream",),
            "cannot be used in a background run: answers are fetched by polling",
            "remove it; for a few long tasks, write stream: true beside request, not in it",
        )


def _background(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is False:
        yield ValidationProblem(
            ("background",),
            "must be true: every request of a run is a background response",
            "remove it; background: true is sent with every request",
        )
    else:
        yield from _flag_of("background")(value, {})


def _background_options(value: Any, request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield ValidationProblem(("background_options",), "must be a mapping such as {completion_window: 8h}")
    elif value.get("completion_window") in ("2h", "8h") and request.get("service_tier") in _SPECIAL_TIERS:
        yield ValidationProblem(
            ("background_options", "completion_window"),
            "2h and 8h are for the standard service tier only",
            "remove service_tier, or the window",
        )


def _previous_response_id(value: Any, request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None:
        return
    if not isinstance(value, str):
        yield ValidationProblem(("previous_response_id",), "must be the id of a response", "put it in quotes")
    elif request.get("conversation") is not None:
        yield ValidationProblem(
            ("previous_response_id",), "cannot be used together with conversation", "keep one of the two"
        )


def _conversation(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None or isinstance(value, str) or (isinstance(value, dict) and "id" in value):
        return
    yield ValidationProblem(("conversation",), "must be the id of a conversation, or {id: …}")


def _prompt_cache_retention(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value == "in-memory":
        yield ValidationProblem(
            ("prompt_cache_retention",), "must be in_memory or 24h", "write in_memory with an underscore"
        )


# ── What the answer looks like ────────────────────────────────────────────────────────────────────────────────


def _text(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield ValidationProblem(
            ("text",), "must be a mapping such as {format: …, verbosity: low}", "a prompt goes into input"
        )
        return
    form = value.get("format")
    if form is None:
        return
    if not isinstance(form, dict):
        hint = "write {type: json_schema, name: …, schema: …}; one shape for all rows, so without a template"
        yield ValidationProblem(("text", "format"), "must be a mapping", hint)
    elif "json_schema" in form:
        yield ValidationProblem(
            ("text", "format", "json_schema"),
            _CHAT,
            "put name, schema and strict beside type: {type: json_schema, name: …, schema: {…}, strict: true}",
        )
    elif form.get("type") == "json_schema":
        yield from _json_schema(form)


def _json_schema(form: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    path = ("text", "format")
    name, schema, strict = form.get("name"), form.get("schema"), form.get("strict")
    if name is None:
        yield ValidationProblem(
            (*path, "name"), "is required", "say in a word what the answer is, such as name: invoice"
        )
    elif not isinstance(name, str) or not _FORMAT_NAME.fullmatch(name):
        yield ValidationProblem((*path, "name"), "must be 1 to 64 letters, digits, _ or -")
    if schema is None:
        yield ValidationProblem(
            (*path, "schema"), "is required", "give a JSON Schema, or the name of a file that holds one"
        )
    elif not isinstance(schema, dict):
        yield ValidationProblem(
            (*path, "schema"), "must be a JSON Schema: a mapping such as {type: object, properties: {…}}"
        )
    if strict is not None and not isinstance(strict, bool):
        yield ValidationProblem((*path, "strict"), "must be true or false")


# ── Tools ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _tools(value: Any, _: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if value is None:
        return
    if not isinstance(value, list):
        yield ValidationProblem(("tools",), "must be a list of tools")
        return
    for index, tool in enumerate(value):
        if not _is_left_to_the_row(tool):
            yield from _tool(tool, ("tools", index))


def _tool(tool: Any, path: FieldPath) -> Iterator[ValidationProblem]:
    if not isinstance(tool, dict) or "type" not in tool:
        yield ValidationProblem(path, "must be a tool with a type, such as {type: web_search}")
        return
    kind = tool["type"]
    if "function" in tool:
        yield ValidationProblem(
            (*path, "function"),
            _CHAT,
            "put name, parameters and strict beside type: {type: function, name: …, parameters: {…}}",
        )
    elif kind == "computer_use":
        yield ValidationProblem((*path, "type"), "there is no tool computer_use", "use type: computer")
    elif isinstance(kind, str) and (absent := [name for name in _TOOL_NEEDS.get(kind, ()) if name not in tool]):
        hint = "add " + ", ".join(f"{name}: {_TOOL_EXAMPLES.get(name, '…')}" for name in absent)
        yield ValidationProblem(path, f"{kind} needs {', '.join(absent)}", hint)
    elif kind == "function" and not isinstance(tool.get("parameters", {}), (dict, str, type(None))):
        yield ValidationProblem(
            (*path, "parameters"), "must be a JSON Schema: a mapping such as {type: object, properties: {…}}"
        )


def _tool_choice(value: Any, request: Mapping[str, Any]) -> Iterator[ValidationProblem]:
    if not isinstance(value, dict):
        return
    if "function" in value:
        yield ValidationProblem(("tool_choice", "function"), _CHAT, "use {type: function, name: …}")
        return
    name, tools = value.get("name"), request.get("tools")
    if value.get("type") not in ("function", "custom") or name is None or _is_left_to_the_row(name):
        return
    known = tools if isinstance(tools, list) else ()
    if tools is not None and not isinstance(tools, list):
        return
    if any(_is_left_to_the_row(tool) or (isinstance(tool, dict) and tool.get("name") == name) for tool in known):
        return
    yield ValidationProblem(("tool_choice", "name"), "names a tool that tools does not have", "add it to tools")


def _is_left_to_the_row(value: Any) -> bool:
    return isinstance(value, str) and is_template(value)


CHECKS: Mapping[str, Check] = {
    "background": _background,
    "background_options": _background_options,
    "context_management": _list_of("context_management", "[{type: compaction, compact_threshold: 100000}]"),
    "conversation": _conversation,
    "include": _list_of("include", "[reasoning.encrypted_content]"),
    "input": _input,
    "instructions": _text_of("instructions"),
    "max_output_tokens": _count_of("max_output_tokens", LEAST_OUTPUT_TOKENS),
    "max_tool_calls": _count_of("max_tool_calls", 1),
    "metadata": _metadata,
    "model": _model,
    "moderation": _mapping_of("moderation", "{model: …}"),
    "parallel_tool_calls": _flag_of("parallel_tool_calls"),
    "previous_response_id": _previous_response_id,
    "prompt": _prompt,
    "prompt_cache_key": _text_of("prompt_cache_key"),
    "prompt_cache_options": _mapping_of("prompt_cache_options", "{mode: explicit}"),
    "prompt_cache_retention": _prompt_cache_retention,
    "reasoning": _mapping_of("reasoning", "{effort: low}"),
    "safety_identifier": _text_of("safety_identifier", most=_SAFETY_IDENTIFIER_LIMIT),
    "service_tier": _text_of("service_tier"),
    "store": _flag_of("store"),
    "stream": _stream,
    "temperature": _number_of("temperature", 0, 2),
    "text": _text,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": _count_of("top_logprobs", 0, 20),
    "top_p": _number_of("top_p", 0, 1),
}
