"""Refuses wrong requests the way the provider does: with the parameter, a code, and what was expected.

The field table follows "POST /v1/responses: request body" of the API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.sandbox.denials import Denied, bad_request
from orchestrator.sandbox.models import Catalogue, Model

__all__ = [
    "check_batch",
    "check_compaction",
    "check_conversation",
    "check_create",
    "check_lifetime",
    "check_token_count",
]

Json: TypeAlias = Any

_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "decimal", list: "array of objects"}
_KINDS |= {dict: "object", type(None): "null"}

MAX_TEXT = 10_485_760
_MOST_ITEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one field may hold; ``low`` and ``high`` bound a number, ``longest`` a string."""

    kinds: tuple[type, ...]
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    longest: int | None = None
    nullable: bool = True


def _text(*choices: str, longest: int | None = None) -> Rule:
    return Rule(kinds=(str,), choices=choices, longest=longest)


def _number(low: float | None = None, high: float | None = None, *, whole: bool = False) -> Rule:
    return Rule(kinds=(int,) if whole else (int, float), low=low, high=high)


_FLAG = Rule(kinds=(bool,))
_OBJECT = Rule(kinds=(dict,))
_ARRAY = Rule(kinds=(list,))

FIELDS: dict[str, Rule] = {
    "background": _FLAG,
    "background_options": _OBJECT,
    "context_management": _ARRAY,
    "conversation": Rule(kinds=(str, dict)),
    "include": _ARRAY,
    "input": Rule(kinds=(str, list), longest=MAX_TEXT, nullable=False),
    "instructions": _text(longest=MAX_TEXT),
    "max_output_tokens": _number(low=16, whole=True),
    "max_tool_calls": _number(low=1, whole=True),
    "metadata": _OBJECT,
    "model": Rule(kinds=(str,), nullable=False),
    "moderation": _OBJECT,
    "parallel_tool_calls": _FLAG,
    "previous_response_id": _text(),
    "prompt": _OBJECT,
    "prompt_cache_key": _text(longest=64),
    "prompt_cache_options": _OBJECT,
    "prompt_cache_retention": _text("in_memory", "24h"),
    "reasoning": _OBJECT,
    "safety_identifier": _text(longest=64),
    "service_tier": _text("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "store": _FLAG,
    "stream": _FLAG,
    "stream_options": _OBJECT,
    "temperature": _number(0, 2),
    "text": _OBJECT,
    "tool_choice": Rule(kinds=(str, dict)),
    "tools": _ARRAY,
    "top_logprobs": _number(0, 20, whole=True),
    "top_p": _number(0, 1),
    "truncation": _text("auto", "disabled"),
    "user": _text(),
}
# What POST /v1/responses/input_tokens takes.
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
} | {"personality": _text()}
# What POST /v1/responses/compact takes.
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
    "effort": _text("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "summary": _text("auto", "concise", "detailed"),
    "context": _text("auto", "current_turn", "all_turns"),
    "mode": _text(),
}
_WINDOW = {"completion_window": _text("soonest", "2h", "8h"), "continuation_id": _text()}
_TEXT = {"format": _OBJECT, "verbosity": _text("low", "medium", "high")}
_CONVERSATION = {"id": Rule(kinds=(str,), nullable=False)}
_LIFETIME = {"anchor": _text("created_at"), "seconds": _number(3_600, 2_592_000, whole=True)}
# The sandbox answers no other endpoint than this one.
_BATCH = {
    "completion_window": _text("24h"),
    "endpoint": _text("/v1/responses"),
    "input_file_id": _text(),
    "metadata": _OBJECT,
    "output_expires_after": _OBJECT,
}
_ROLES = ("user", "system", "developer", "assistant")
_PARTS = ("input_text", "input_image", "input_file", "output_text", "refusal")

# What an item of each type must have; items of other types are taken as they are.
_WORD = Rule(kinds=(str,), nullable=False)
_RETURNED = {"call_id": _WORD, "output": Rule(kinds=(str, list), nullable=False)}
_ITEMS: dict[str, dict[str, Rule]] = {
    "function_call": {"call_id": _WORD, "name": _WORD, "arguments": _WORD},
    "function_call_output": _RETURNED,
    "custom_tool_call": {"call_id": _WORD, "name": _WORD, "input": _WORD},
    "custom_tool_call_output": _RETURNED,
    "mcp_approval_response": {"approval_request_id": _WORD, "approve": Rule(kinds=(bool,), nullable=False)},
    "compaction": {"encrypted_content": _WORD},
    "item_reference": {"id": _WORD},
}

# The keys that a tool of each type must have (responses API, "tools").
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
_TOOL_KEYS = {"name": _text(longest=64), "parameters": _OBJECT, "server_label": _text()}


def check_create(fields: Mapping[str, Json], catalogue: Catalogue) -> Model:
    """The model that the request asks for; raises ``Denied`` at the first thing that is wrong."""
    _check_fields(fields, FIELDS, "")
    if fields.get("model") is None:
        raise _missing("model")
    model = catalogue.get(fields["model"])
    if fields.get("input") is None and fields.get("prompt") is None:
        raise _missing("input")
    _check_items(fields.get("input"))
    _check_metadata(fields.get("metadata") or {})
    _check_fields(fields.get("reasoning") or {}, _REASONING, "reasoning.")
    _check_fields(fields.get("background_options") or {}, _WINDOW, "background_options.")
    if isinstance(fields.get("conversation"), dict):
        _check_fields(fields["conversation"], _CONVERSATION, "conversation.")
        _require(fields["conversation"], ("id",), "conversation")
    _check_text(fields.get("text") or {})
    _check_tools(fields.get("tools") or [])
    _check_sampling(fields, model)
    _check_combinations(fields)
    return model


def check_token_count(fields: Mapping[str, Json], catalogue: Catalogue) -> None:
    """Raises ``Denied`` if the request for a token count is wrong."""
    _check_fields(fields, COUNT_FIELDS, "")
    if fields.get("model") is not None:
        catalogue.get(fields["model"])
    _check_items(fields.get("input") or [])
    _check_tools(fields.get("tools") or [])


def check_compaction(fields: Mapping[str, Json], catalogue: Catalogue) -> Model:
    """The model of a request for a compaction; raises ``Denied`` if the request is wrong."""
    _check_fields(fields, COMPACT_FIELDS, "")
    if fields.get("model") is None:
        raise _missing("model")
    _check_items(fields.get("input"))
    return catalogue.get(fields["model"])


def check_conversation(fields: Mapping[str, Json]) -> None:
    """Raises ``Denied`` if the body of a call that begins or changes a conversation, or adds to it, is wrong."""
    _check_fields(fields, {"items": _ARRAY, "metadata": _OBJECT}, "")
    items = fields.get("items") or []
    if len(items) > _MOST_ITEMS:
        message = f"Invalid 'items': array too long. Expected an array with at most {_MOST_ITEMS} items."
        raise bad_request(message, code="array_above_max_length", param="items")
    _check_items(items, "items")
    _check_metadata(fields.get("metadata") or {})


def check_batch(fields: Mapping[str, Json]) -> None:
    """Raises ``Denied`` if the body of a call that creates a batch is wrong."""
    _check_fields(fields, _BATCH, "")
    for name in ("completion_window", "endpoint", "input_file_id"):
        if fields.get(name) is None:
            raise _missing(name)
    _check_metadata(fields.get("metadata") or {})
    if fields.get("output_expires_after") is not None:
        check_lifetime(fields["output_expires_after"], "output_expires_after")


def check_lifetime(fields: Mapping[str, Json], param: str) -> None:
    """Raises ``Denied`` unless a file is to be kept from its creation for an hour to thirty days."""
    _require(fields, ("anchor", "seconds"), param)
    _check_fields(fields, _LIFETIME, f"{param}.")


def _check_fields(fields: Mapping[str, Json], rules: Mapping[str, Rule], prefix: str) -> None:
    for name, value in fields.items():
        rule = rules.get(name)
        if rule is None:
            param = prefix + name
            raise bad_request(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
        _check_value(value, rule, prefix + name)


def _check_value(value: Json, rule: Rule, param: str) -> None:
    if value is None and rule.nullable:
        return
    # A JSON true is no number, although Python's bool is an int.
    if not isinstance(value, rule.kinds) or (isinstance(value, bool) and bool not in rule.kinds):
        raise _wrong_type(param, rule.kinds, value)
    if isinstance(value, str):
        _check_string(value, rule, param)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(value, rule, param)


def _check_string(value: str, rule: Rule, param: str) -> None:
    if rule.choices and value not in rule.choices:
        raise _unsupported_choice(value, rule.choices, param)
    if rule.longest is not None and len(value) > rule.longest:
        raise bad_request(
            f"Invalid '{param}': string too long. Expected a string with maximum length {rule.longest}, "
            f"but got a string with length {len(value)} instead.",
            code="string_above_max_length",
            param=param,
        )


def _check_bounds(value: float, rule: Rule, param: str) -> None:
    kind = "integer" if rule.kinds == (int,) else "decimal"
    if rule.low is not None and value < rule.low:
        expected, code = f"{kind} below minimum value. Expected a value >= {rule.low}", f"{kind}_below_min_value"
    elif rule.high is not None and value > rule.high:
        expected, code = f"{kind} above maximum value. Expected a value <= {rule.high}", f"{kind}_above_max_value"
    else:
        return
    raise bad_request(f"Invalid '{param}': {expected}, but got {value} instead.", code=code, param=param)


def _check_items(items: Json, name: str = "input") -> None:
    if isinstance(items, str) or items is None:
        return
    for index, item in enumerate(items):
        param = f"{name}[{index}]"
        if not isinstance(item, dict):
            raise _wrong_type(param, (dict,), item)
        kind = item.get("type", "message" if "role" in item else None)
        if kind is None:
            raise _missing(f"{param}.type")
        if kind == "message":
            _check_message(item, param)
            continue
        needed = _ITEMS.get(kind, {}) if isinstance(kind, str) else {}
        _require(item, needed, param)
        _check_fields({name: item[name] for name in needed}, needed, f"{param}.")


def _check_message(item: Mapping[str, Json], param: str) -> None:
    _require(item, ("role", "content"), param)
    if item["role"] not in _ROLES:
        raise _unsupported_choice(item["role"], _ROLES, f"{param}.role")
    content = item["content"]
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise _wrong_type(f"{param}.content", (list, str), content)
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise _wrong_type(f"{param}.content[{index}]", (dict,), part)
        _require(part, ("type",), f"{param}.content[{index}]")
        if part["type"] not in _PARTS:
            raise _unsupported_choice(part["type"], _PARTS, f"{param}.content[{index}].type")


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
        _check_value(value, Rule(kinds=(str,), longest=512, nullable=False), f"metadata.{key}")


def _check_text(text: Mapping[str, Json]) -> None:
    _check_fields(text, _TEXT, "text.")
    shape = text.get("format")
    if shape is None:
        return
    kind = _type_of(shape, "text.format")
    if kind == "json_schema":
        _require(shape, ("name", "schema"), "text.format")
        _check_value(shape["schema"], Rule(kinds=(dict,), nullable=False), "text.format.schema")
    elif kind not in {"text", "json_object"}:
        raise _unsupported_choice(kind, ("text", "json_schema", "json_object"), "text.format.type")


def _check_tools(tools: Iterable[Json]) -> None:
    for index, tool in enumerate(tools):
        param = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise _wrong_type(param, (dict,), tool)
        kind = _type_of(tool, param)
        if kind not in _TOOLS:
            raise _unsupported_choice(kind, _TOOLS, f"{param}.type")
        # The nested form of the chat API ends here: its name is not where this API looks for it.
        _require(tool, _TOOLS[kind], param)
        _check_fields({key: tool[key] for key in _TOOL_KEYS if key in tool}, _TOOL_KEYS, f"{param}.")


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
            fields.get("stream_options") is not None and not fields.get("stream"),
            "stream_options",
            "'stream_options' is only allowed when 'stream' is true.",
        ),
    ):
        if broken:
            # The provider's code for these is not known, so there is none.
            raise bad_request(message, code=None, param=param)


def _require(fields: Mapping[str, Json], names: Iterable[str], prefix: str) -> None:
    for name in names:
        if fields.get(name) is None:
            raise _missing(f"{prefix}.{name}")


def _type_of(fields: Mapping[str, Json], prefix: str) -> str:
    _require(fields, ("type",), prefix)
    _check_value(fields["type"], _text(), f"{prefix}.type")
    return str(fields["type"])


def _missing(param: str) -> Denied:
    return bad_request(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def _wrong_type(param: str, kinds: tuple[type, ...], value: Json) -> Denied:
    wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
    return bad_request(
        f"Invalid type for '{param}': expected {wanted}, but got {_KINDS[type(value)]} instead.",
        code="invalid_type",
        param=param,
    )


def _unsupported_choice(value: str, choices: Iterable[str], param: str) -> Denied:
    allowed = ", ".join(f"'{choice}'" for choice in choices)
    return bad_request(
        f"Invalid value: '{value}'. Supported values are: {allowed}.", code="invalid_value", param=param
    )
