"""The response object as the provider writes it, read leniently: only the fields that are used, whatever their state.

Servers differ and the API grows monthly, so nothing but ``id`` and ``status`` is required. A field of the wrong
type counts as absent; usage of the wrong type is unknown, never zero. The body itself is kept as received.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from orchestrator.core.model import FunctionCall, Response, ToolUse, Usage
from orchestrator.provider.prose import collapse, is_html, prose
from orchestrator.provider.refusal import error_fields, word

__all__ = ["ENDED", "UnreadableReply", "function_calls", "parse_response", "salvage_id"]

# Every other status, an unknown one included, is not final (responses API, status).
ENDED = frozenset({"completed", "failed", "incomplete", "cancelled"})

# The response stopped and waits for the client, although its status says "completed" (responses API, output items).
_WAITING = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "shell_call",
        "local_shell_call",
        "apply_patch_call",
        "computer_call",
        "mcp_approval_request",
    }
)


# Items that are no calls: nearly all there are.
_TALK = frozenset({"message", "reasoning"})
_NO_TOOLS = ToolUse()


class UnreadableReply(Exception):
    """A body that is not a response object; the message says what it is instead."""


# No real count comes near the bound, and a product with any price stays within SQLite's integers.
_Count = Annotated[int, Field(ge=0, le=10**10)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class _InputDetails(_Wire):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None


class _OutputDetails(_Wire):
    reasoning_tokens: _Count | None = None


class _Usage(_Wire):
    input_tokens: _Count
    output_tokens: _Count
    total_tokens: _Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Item(_Wire):
    """An output item: the few fields that are used, of any kind of item."""

    type: str
    id: Any = None
    call_id: Any = None
    approval_request_id: Any = None
    container_id: Any = None
    name: Any = None
    arguments: Any = None
    phase: Any = None
    content: Any = None


# The first that fits, all in Rust; ``Any`` takes whatever else stands there, and the code below asks what it is.
_FIRST_FIT = Field(union_mode="left_to_right")
_AnyItem = Annotated[_Item | Any, _FIRST_FIT]


class _Body(_Wire):
    id: str = Field(min_length=1)
    status: str = Field(min_length=1)
    model: Any = None
    service_tier: Any = None
    output: Annotated[list[_AnyItem] | Any, _FIRST_FIT] = None
    usage: Annotated[_Usage | Any, _FIRST_FIT] = None
    error: Any = None
    incomplete_details: Any = None
    created_at: Any = None
    completed_at: Any = None
    metadata: Any = None


def parse_response(body: bytes, *, status_aliases: Mapping[str, str] | None = None) -> Response:
    """The response in a body; raises ``UnreadableReply`` where there is none.

    ``status_aliases`` translates the words of other servers (``{"succeeded": "completed"}``). What the output
    says is read only when the status is final.
    """
    try:
        wire = _Body.model_validate_json(body)
    except ValidationError as error:
        raise UnreadableReply(_instead(body, error)) from None
    status = status_aliases.get(wire.status, wire.status) if status_aliases else wire.status
    ended = status in ENDED
    items = (
        [item for item in wire.output if isinstance(item, _Item)] if ended and isinstance(wire.output, list) else []
    )
    messages = [item for item in items if item.type == "message"]
    others = [item for item in items if item.type not in _TALK]
    fault = _error(wire.error)
    return Response(
        id=wire.id,
        status=status,
        ended=ended,
        body=body,
        model=_text(wire.model),
        service_tier=_text(wire.service_tier),
        usage=_usage(wire.usage),
        tool_use=_tool_use(others),
        error_code=word(fault.get("code")) or word(fault.get("type")),
        error_message=_message(fault.get("message")),
        incomplete_reason=_reason(wire.incomplete_details),
        output_text=_output_text(messages),
        refusal=_refusal(messages),
        waits_for=_waits_for(others),
        created_at=_moment(wire.created_at),
        completed_at=_moment(wire.completed_at),
        metadata=_metadata(wire.metadata),
    )


def function_calls(body: bytes) -> list[FunctionCall]:
    """The function calls of a response that nothing in it answers, in their order."""
    try:
        output = _Body.model_validate_json(body).output
    except ValidationError:
        return []
    items = [item for item in output if isinstance(item, _Item)] if isinstance(output, list) else []
    answered = {item.call_id for item in items if item.type.endswith("_output")}
    return [
        FunctionCall(call_id=item.call_id, name=str(item.name), arguments=_text(item.arguments) or "{}")
        for item in items
        if item.type == "function_call" and isinstance(item.call_id, str) and item.call_id not in answered
    ]


def salvage_id(body: bytes) -> str | None:
    """The id of the response that a damaged body began to describe, or None where that is not certain.

    Only a complete ``id`` of the outermost object counts, and only where it looks like a response's or the object
    says that it is one: to poll for something else would take the place of a real answer.
    """
    try:
        document = from_json(body, allow_partial=True)
    except ValueError:
        return None
    match document:
        case {"id": str() as found, **rest} if found.startswith("resp_") or rest.get("object") == "response":
            return found
    return None


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, _Usage):
        return None
    into, out = usage.input_tokens_details, usage.output_tokens_details
    cached = (into.cached_tokens or 0) if into else 0
    cache_write = (into.cache_write_tokens or 0) if into else 0
    if cached + cache_write > usage.input_tokens:
        # Counts that contradict each other would make a negative price of the rest.
        return None
    return Usage(
        input_tokens=usage.input_tokens,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        output_tokens=usage.output_tokens,
        reasoning_tokens=(out.reasoning_tokens or 0) if out else 0,
        total_tokens=usage.input_tokens + usage.output_tokens if usage.total_tokens is None else usage.total_tokens,
    )


def _tool_use(items: list[_Item]) -> ToolUse:
    if not items:
        return _NO_TOOLS
    kinds = [item.type for item in items]
    return ToolUse(
        web_searches=kinds.count("web_search_call"),
        file_searches=kinds.count("file_search_call"),
        code_sessions=len({str(item.container_id) for item in items if item.type == "code_interpreter_call"}),
    )


def _output_text(messages: list[_Item]) -> str:
    """The text parts of all messages, or of the final answers alone where some are marked as such."""
    finals = [message for message in messages if message.phase == "final_answer"]
    return "".join(_parts(finals or messages, "output_text", "text"))


def _refusal(messages: list[_Item]) -> str | None:
    return "".join(_parts(messages, "refusal", "refusal")) or None


def _parts(messages: Iterable[_Item], kind: str, name: str) -> Iterable[str]:
    for message in messages:
        if isinstance(message.content, list):
            for part in message.content:
                if isinstance(part, dict) and part.get("type") == kind and isinstance(part.get(name), str):
                    yield part[name]


def _waits_for(items: list[_Item]) -> str | None:
    """The kind of call that nothing answers; hosted tools bring their outputs along.

    A function call is named only where it is the one kind: all of them must be answered to go on.
    """
    if not items:
        return None
    answered = [item.call_id for item in items if item.type.endswith("_output")]
    answered += [item.approval_request_id for item in items if item.type == "mcp_approval_response"]
    waiting: str | None = None
    for item in items:
        if item.type in _WAITING:
            called = item.id if item.type == "mcp_approval_request" else item.call_id
            if called is None or called not in answered:
                if item.type != "function_call":
                    return item.type
                waiting = item.type
    return waiting


def _error(error: Any) -> Mapping[str, Any]:
    return error_fields({"error": error}) if isinstance(error, dict | str) else {}


def _message(value: Any) -> str | None:
    return (collapse(value) or None) if isinstance(value, str) else None


def _reason(details: Any) -> str | None:
    return _text(details.get("reason")) if isinstance(details, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _moment(value: Any) -> float | None:
    """Unix seconds of a number, of a number as text, or of an ISO 8601 text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso_moment(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _iso_moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _metadata(pairs: Any) -> dict[str, str]:
    if not isinstance(pairs, dict):
        return {}
    return {name: value for name, value in pairs.items() if isinstance(value, str)}


def _instead(body: bytes, error: ValidationError) -> str:
    """What a body is that is not a response, for people."""
    if not body.strip():
        return "the reply is empty"
    if is_html(body):
        return f"the reply is a web page, not a response: {prose(body)}"
    faults = error.errors(include_input=False, include_url=False)
    if any(fault["type"] == "json_invalid" for fault in faults):
        return "the reply is not complete JSON"
    missing = ", ".join(str(fault["loc"][0]) for fault in faults if fault["loc"])
    return f"the reply is not a response object: no usable {missing}" if missing else "the reply is not a JSON object"
