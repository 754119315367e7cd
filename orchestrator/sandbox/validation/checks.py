"""Refuses wrong requests as the provider does: with the parameter, a code, and what was expected.

The field table follows "POST /v1/responses: request body" of the API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.simulation.models import Catalogue, Model
from orchestrator.sandbox.validation.rules import (
    ARRAY,
    FLAG,
    OBJECT,
    Rule,
    check_fields,
    check_value,
    missing,
    number_rule,
    require,
    text_rule,
    type_of,
    unsupported_choice,
    wrong_type,
)
from orchestrator.sandbox.validation.strict_mode import check_strict

__all__ = [
    "check_batch",
    "check_compaction",
    "check_conversation",
    "check_create",
    "check_lifetime",
    "check_token_count",
]

Json: TypeAlias = Any

MAX_TEXT = 10_485_760
_MAX_ITEMS = 20

FIELDS: dict[str, Rule] = {
    "background": FLAG,
    "background_options": OBJECT,
    "context_management": ARRAY,
    "conversation": Rule(kinds=(str, dict)),
    "include": ARRAY,
    "input": Rule(kinds=(str, list), longest=MAX_TEXT, nullable=False),
    "instructions": text_rule(longest=MAX_TEXT),
    "max_output_tokens": number_rule(low=16, whole=True),
    "max_tool_calls": number_rule(low=1, whole=True),
    "metadata": OBJECT,
    "model": Rule(kinds=(str,), nullable=False),
    "moderation": OBJECT,
    "parallel_tool_calls": FLAG,
    "previous_response_id": text_rule(),
    "prompt": OBJECT,
    "prompt_cache_key": text_rule(longest=64),
    "prompt_cache_options": OBJECT,
    "prompt_cache_retention": text_rule("in_memory", "24h"),
    "reasoning": OBJECT,
    "safety_identifier": text_rule(longest=128),
    "service_tier": text_rule("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "store": FLAG,
    "stream": FLAG,
    "stream_options": OBJECT,
    "temperature": number_rule(0, 2),
    "text": OBJECT,
    "tool_choice": Rule(kinds=(str, dict), choices=("none", "auto", "required")),
    "tools": ARRAY,
    "top_logprobs": number_rule(0, 20, whole=True),
    "top_p": number_rule(0, 1),
    "truncation": text_rule("auto", "disabled"),
    "user": text_rule(),
}
# The fields of POST /v1/responses/input_tokens.
COUNT_FIELDS = {
    name: FIELDS[name]
    for name in (
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    )
} | {"personality": text_rule()}
# The fields of POST /v1/responses/compact.
COMPACT_FIELDS = {
    name: FIELDS[name]
    for name in (
        "input",
        "instructions",
        "model",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
    )
}

_REASONING = {
    "effort": text_rule("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "summary": text_rule("auto", "concise", "detailed"),
    "context": text_rule("auto", "current_turn", "all_turns"),
    "mode": text_rule(),
}
_WINDOW = {"completion_window": text_rule("soonest", "2h", "8h"), "continuation_id": text_rule()}
_TEXT = {"format": OBJECT, "verbosity": text_rule("low", "medium", "high")}
_FORMAT = {"name": text_rule(longest=64), "schema": OBJECT, "strict": FLAG, "description": text_rule()}
_CONVERSATION = {"id": Rule(kinds=(str,), nullable=False)}
_LIFETIME = {"anchor": text_rule("created_at"), "seconds": number_rule(3_600, 2_592_000, whole=True)}
# The only endpoint whose batches the sandbox answers.
_BATCH = {
    "completion_window": text_rule("24h"),
    "endpoint": text_rule("/v1/responses"),
    "input_file_id": text_rule(),
    "metadata": OBJECT,
    "output_expires_after": OBJECT,
}
_ROLES = ("user", "system", "developer", "assistant")
_PARTS = ("input_text", "input_image", "input_file", "output_text", "refusal")

# The required fields of items, by type; items of other types are not checked.
_TEXT_FIELD = Rule(kinds=(str,), nullable=False)
_OUTPUT_ITEM = {"call_id": _TEXT_FIELD, "output": Rule(kinds=(str, list), nullable=False)}
_ITEMS: dict[str, dict[str, Rule]] = {
    "function_call": {"call_id": _TEXT_FIELD, "name": _TEXT_FIELD, "arguments": _TEXT_FIELD},
    "function_call_output": _OUTPUT_ITEM,
    "custom_tool_call": {"call_id": _TEXT_FIELD, "name": _TEXT_FIELD, "input": _TEXT_FIELD},
    "custom_tool_call_output": _OUTPUT_ITEM,
    "mcp_approval_response": {"approval_request_id": _TEXT_FIELD, "approve": Rule(kinds=(bool,), nullable=False)},
    "compaction": {"encrypted_content": _TEXT_FIELD},
    "item_reference": {"id": _TEXT_FIELD},
}

# The required keys of tools, by type (responses API, "tools").
_TOOLS: dict[str, tuple[str, ...]] = {
    "function": ("name", "parameters"),
    "custom": ("name",),
    "file_search": ("vector_store_ids",),
    "code_interpreter": ("container",),
    "mcp": ("server_label",),
    "computer_use_preview": ("environment", "display_width", "display_height"),
    "web_search": (),
    "web_search_2025_08_26": (),
    "web_search_preview": (),
    "web_search_preview_2025_03_11": (),
    "image_generation": (),
    "computer": (),
    "shell": (),
    "local_shell": (),
    "apply_patch": (),
    "namespace": (),
    "tool_search": (),
    "programmatic_tool_calling": (),
}
_TOOL_KEYS = {"name": text_rule(longest=64), "parameters": OBJECT, "server_label": text_rule()}


def check_create(fields: Mapping[str, Json], catalogue: Catalogue) -> Model:
    """The requested model of a create; raises ``ErrorReply`` (400) at the first field that is wrong."""
    check_fields(fields, FIELDS, "")
    if fields.get("model") is None:
        raise missing("model")
    model = catalogue.get(fields["model"])
    if fields.get("input") is None and fields.get("prompt") is None:
        raise missing("input")
    _check_items(fields.get("input"))
    _check_metadata(fields.get("metadata") or {})
    check_fields(fields.get("reasoning") or {}, _REASONING, "reasoning.")
    check_fields(fields.get("background_options") or {}, _WINDOW, "background_options.")
    if isinstance(fields.get("conversation"), dict):
        check_fields(fields["conversation"], _CONVERSATION, "conversation.")
        require(fields["conversation"], ("id",), "conversation")
    _check_text(fields.get("text") or {})
    _check_tools(fields.get("tools") or [])
    _check_sampling(fields, model)
    _check_combinations(fields)
    return model


def check_token_count(fields: Mapping[str, Json], catalogue: Catalogue) -> None:
    """Raises ``ErrorReply`` (400) if the request for a token count is wrong."""
    check_fields(fields, COUNT_FIELDS, "")
    if fields.get("model") is not None:
        catalogue.get(fields["model"])
    _check_items(fields.get("input") or [])
    _check_tools(fields.get("tools") or [])


def check_compaction(fields: Mapping[str, Json], catalogue: Catalogue) -> Model:
    """The requested model of a compaction; raises ``ErrorReply`` (400) if the request is wrong."""
    check_fields(fields, COMPACT_FIELDS, "")
    if fields.get("model") is None:
        raise missing("model")
    _check_items(fields.get("input"))
    return catalogue.get(fields["model"])


def check_conversation(fields: Mapping[str, Json]) -> None:
    """Raises ``ErrorReply`` (400) if the body of a call that creates or changes a conversation is wrong."""
    check_fields(fields, {"items": ARRAY, "metadata": OBJECT}, "")
    items = fields.get("items") or []
    if len(items) > _MAX_ITEMS:
        message = f"Invalid 'items': array too long. Expected an array with at most {_MAX_ITEMS} items."
        raise bad_request(message, code="array_above_max_length", param="items")
    _check_items(items, "items")
    _check_metadata(fields.get("metadata") or {})


def check_batch(fields: Mapping[str, Json]) -> None:
    """Raises ``ErrorReply`` (400) if the body of a call that creates a batch is wrong."""
    check_fields(fields, _BATCH, "")
    for name in ("completion_window", "endpoint", "input_file_id"):
        if fields.get(name) is None:
            raise missing(name)
    _check_metadata(fields.get("metadata") or {})
    if fields.get("output_expires_after") is not None:
        check_lifetime(fields["output_expires_after"], "output_expires_after")


def check_lifetime(fields: Mapping[str, Json], param: str) -> None:
    """Raises ``ErrorReply`` (400) unless a file expires an hour to thirty days after its creation."""
    require(fields, ("anchor", "seconds"), param)
    check_fields(fields, _LIFETIME, f"{param}.")


def _check_items(items: Json, name: str = "input") -> None:
    if isinstance(items, str) or items is None:
        return
    for index, item in enumerate(items):
        param = f"{name}[{index}]"
        if not isinstance(item, dict):
            raise wrong_type(param, (dict,), item)
        kind = item.get("type", "message" if "role" in item else None)
        if kind is None:
            raise missing(f"{param}.type")
        if kind == "message":
            _check_message(item, param)
            continue
        needed = _ITEMS.get(kind, {}) if isinstance(kind, str) else {}
        require(item, needed, param)
        check_fields({name: item[name] for name in needed}, needed, f"{param}.")


def _check_message(item: Mapping[str, Json], param: str) -> None:
    require(item, ("role", "content"), param)
    if item["role"] not in _ROLES:
        raise unsupported_choice(item["role"], _ROLES, f"{param}.role")
    content = item["content"]
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(f"{param}.content", (list, str), content)
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise wrong_type(f"{param}.content[{index}]", (dict,), part)
        require(part, ("type",), f"{param}.content[{index}]")
        if part["type"] not in _PARTS:
            raise unsupported_choice(part["type"], _PARTS, f"{param}.content[{index}].type")


def _check_metadata(metadata: Mapping[str, Json]) -> None:
    if len(metadata) > 16:
        raise bad_request(
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(metadata)} properties instead.",
            code="object_above_max_properties",
            param="metadata",
        )
    for key, value in metadata.items():
        if len(key) > 64:
            raise bad_request(
                "Invalid 'metadata': a key is too long. Expected keys with maximum length 64, "
                f"but got a key with length {len(key)} instead.",
                code="string_above_max_length",
                param="metadata",
            )
        check_value(value, Rule(kinds=(str,), longest=512, nullable=False), f"metadata.{key}")


def _check_text(text: Mapping[str, Json]) -> None:
    check_fields(text, _TEXT, "text.")
    shape = text.get("format")
    if shape is None:
        return
    kind = type_of(shape, "text.format")
    if kind == "json_schema":
        require(shape, ("name", "schema"), "text.format")
        check_fields({key: shape[key] for key in _FORMAT if key in shape}, _FORMAT, "text.format.")
        if shape.get("strict"):
            check_strict(shape["schema"], shape["name"])
    elif kind not in {"text", "json_object"}:
        raise unsupported_choice(kind, ("text", "json_schema", "json_object"), "text.format.type")


def _check_tools(tools: Iterable[Json]) -> None:
    for index, tool in enumerate(tools):
        param = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise wrong_type(param, (dict,), tool)
        kind = type_of(tool, param)
        if kind not in _TOOLS:
            raise unsupported_choice(kind, _TOOLS, f"{param}.type")
        # Refuses the nested form of the chat API: it has the name in another place.
        require(tool, _TOOLS[kind], param)
        check_fields({key: tool[key] for key in _TOOL_KEYS if key in tool}, _TOOL_KEYS, f"{param}.")


def _check_sampling(fields: Mapping[str, Json], model: Model) -> None:
    if not model.reasoning or (fields.get("reasoning") or {}).get("effort") == "none":
        return
    for name in ("temperature", "top_p"):
        if fields.get(name) is not None:
            raise bad_request(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                code="unsupported_parameter",
                param=name,
            )


def _check_combinations(fields: Mapping[str, Json]) -> None:
    background, store = fields.get("background"), fields.get("store")
    previous, conversation = fields.get("previous_response_id"), fields.get("conversation")
    long_window = (fields.get("background_options") or {}).get("completion_window") in ("2h", "8h")
    default_tier = fields.get("service_tier") in (None, "auto", "default")
    for broken, param, message in (
        (background and store is False, "background", "Background mode requires 'store' to be true."),
        (
            previous is not None and conversation is not None,
            "previous_response_id",
            "'previous_response_id' and 'conversation' cannot be used together.",
        ),
        (
            fields.get("background_options") and not background,
            "background_options",
            "'background_options' requires 'background' to be true.",
        ),
        (
            long_window and (fields.get("stream") or not default_tier),
            "background_options.completion_window",
            "A completion window of hours needs the default service tier, and cannot be streamed.",
        ),
        (
            fields.get("stream_options") is not None and not fields.get("stream"),
            "stream_options",
            "'stream_options' is only allowed when 'stream' is true.",
        ),
    ):
        if broken:
            # The provider's code for these is not known.
            raise bad_request(message, code=None, param=param)
