"""Reads the provider's response object leniently: only the fields that are used, whatever their state.

Servers differ and the API grows monthly, so only ``id`` and ``status`` are required. A field of the wrong type counts
as absent; usage of the wrong type is unknown, never zero. The body itself is kept as received. It is read field by
field: building objects of the whole body would cost more than all other steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from orchestrator.core.model import FunctionCall, Response, ToolUse, Usage
from orchestrator.provider.answer_items import Item, has_image, items_of, refusal_of, text_of
from orchestrator.provider.body_text import body_text, collapse, is_html
from orchestrator.provider.refusal import code_text, error_fields
from orchestrator.provider.reply_json import leading_fields, read_json

__all__ = ["ENDED", "UnreadableReply", "function_calls", "parse_response", "salvage_id"]

# Every other status, an unknown one included, is not final (responses API, status).
ENDED = frozenset({"completed", "failed", "incomplete", "cancelled"})

# With these the response waits for the client, although its status is "completed" (responses API, output items).
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


# Items that are no calls; most items are of these types.
_MESSAGES_AND_REASONING = frozenset({"message", "reasoning"})
_NO_TOOLS = ToolUse()


# Unix seconds up to the year 9999: no later time can be shown.
_LAST_TIME = 253_402_300_799.0


class UnreadableReply(Exception):
    """A body is not a response object; the message says what it is instead.

    ``foreign`` says that it is not of the API: a gateway's page, or nothing.
    """

    def __init__(self, reason: str, *, foreign: bool = False) -> None:
        super().__init__(reason)
        self.foreign = foreign


# No real count comes close to the bound, and its product with any price fits into SQLite's integers.
_MOST_TOKENS = 10**10
_Count = Annotated[int, Field(ge=0, le=_MOST_TOKENS)]


class _WriteDetails(TypedDict):
    ttl_12h_tokens: NotRequired[_Count | None]


class _InputDetails(TypedDict):
    cached_tokens: NotRequired[_Count | None]
    cache_write_tokens: NotRequired[_Count | None]
    cache_write_tokens_details: NotRequired[_WriteDetails | None]


class _OutputDetails(TypedDict):
    reasoning_tokens: NotRequired[_Count | None]


class _ReportedUsage(TypedDict):
    input_tokens: _Count
    output_tokens: _Count
    total_tokens: NotRequired[_Count | None]
    input_tokens_details: NotRequired[_InputDetails | None]
    output_tokens_details: NotRequired[_OutputDetails | None]


# Every response has one, and a pydantic model takes three times as long as a dictionary.
_USAGE = TypeAdapter(_ReportedUsage)


def parse_response(body: bytes, *, status_aliases: Mapping[str, str] | None = None) -> Response:
    """Returns the response in a body; raises ``UnreadableReply`` if there is none.

    ``status_aliases`` translates the words of other servers (``{"succeeded": "completed"}``). Of a response that is
    not final, only id, status and metadata are read.
    """
    wire, body = _document(body)
    if not isinstance(wire, dict):
        raise UnreadableReply("the reply is not a JSON object")
    response_id, status = _text(wire.get("id")), _text(wire.get("status"))
    if response_id is None or status is None:
        missing = ", ".join(name for name, found in (("id", response_id), ("status", status)) if found is None)
        raise UnreadableReply(f"the reply is not a response object: no usable {missing}")
    status = status_aliases.get(status, status) if status_aliases else status
    metadata = wire.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else None
    if status not in ENDED:
        return Response(id=response_id, status=status, ended=False, body=body, metadata=metadata)
    items = items_of(wire)
    messages = [item for item in items if item["type"] == "message"]
    others = [item for item in items if item["type"] not in _MESSAGES_AND_REASONING]
    code, message = _fault(wire.get("error"))
    usage = _usage(wire.get("usage"))
    uncertain = False
    if usage is not None and usage.cache_write_tokens:
        usage, uncertain = _with_long_writes(usage, wire)
    reported = wire.get("tool_usage")
    tool_use, is_guess = _tool_use(others, reported) if others or reported else (_NO_TOOLS, False)
    return Response(
        id=response_id,
        status=status,
        ended=True,
        body=body,
        model=_text(wire.get("model")),
        service_tier=_text(wire.get("service_tier")),
        usage=usage,
        tool_use=tool_use,
        uncertain_use=uncertain or is_guess,
        no_tool_items=not others,
        has_image=bool(others) and has_image(others),
        error_code=code,
        error_message=message,
        incomplete_reason=_reason(wire.get("incomplete_details")),
        output_text=text_of(messages, wire),
        refusal=refusal_of(messages),
        waits_for=_waits_for(others),
        created_at=_timestamp(wire.get("created_at")),
        completed_at=_timestamp(wire.get("completed_at")),
        metadata=metadata,
    )


def function_calls(body: bytes) -> list[FunctionCall]:
    """Returns the unanswered function calls of a response, in their order."""
    try:
        wire, _ = _document(body)
    except UnreadableReply:
        return []
    items = items_of(wire) if isinstance(wire, dict) else []
    answered = [item.get("call_id") for item in items if item["type"].endswith("_output")]
    return [
        FunctionCall(call_id=call_id, name=str(item.get("name")), arguments=_text(item.get("arguments")) or "{}")
        for item in items
        if item["type"] == "function_call"
        and isinstance(call_id := item.get("call_id"), str)
        and call_id not in answered
    ]


def salvage_id(body: bytes) -> str | None:
    """Returns the id of the response in a damaged body, or None if that is not certain.

    Only a complete ``id`` of the outermost object counts, and only if it looks like a response's or the object says
    that it is one: polling another object would replace a real answer.
    """
    match leading_fields(body):
        case {"id": str() as found, **rest} if found.startswith("resp_") or rest.get("object") == "response":
            return found
    return None


def _document(body: bytes) -> tuple[Any, bytes]:
    try:
        return read_json(body)
    except ValueError:
        raise _not_json(body) from None


def _usage(reported: Any) -> Usage | None:
    if reported is None:
        return None
    try:
        usage = _USAGE.validate_python(reported)
    except ValidationError:
        return None
    read, written, total = usage["input_tokens"], usage["output_tokens"], usage.get("total_tokens")
    into, out = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    cached = (into.get("cached_tokens") or 0) if into else 0
    cache_write = (into.get("cache_write_tokens") or 0) if into else 0
    split = into.get("cache_write_tokens_details") if into else None
    cache_write_12h = (split.get("ttl_12h_tokens") or 0) if split else 0
    if cached + cache_write > read or cache_write_12h > cache_write:
        # Contradictory counts would give a negative price for the rest.
        return None
    return Usage(
        input_tokens=read,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        output_tokens=written,
        reasoning_tokens=(out.get("reasoning_tokens") or 0) if out else 0,
        total_tokens=read + written if total is None else total,
        cache_write_12h_tokens=cache_write_12h,
    )


def _with_long_writes(usage: Usage, wire: Mapping[str, Any]) -> tuple[Usage, bool]:
    """Returns the usage with all writes counted as twelve-hour ones if they may be, and whether that is a guess.

    A response that does not split its writes by lifetime, and to which twelve hours were applied, may have written
    all of them for that long.
    """
    options = wire.get("prompt_cache_options")
    details = wire["usage"]["input_tokens_details"]
    if details.get("cache_write_tokens_details") is not None or not isinstance(options, dict):
        return usage, False
    if options.get("ttl") != "12h":
        return usage, False
    return replace(usage, cache_write_12h_tokens=usage.cache_write_tokens), True


def _tool_use(items: Sequence[Item], reported: Any) -> tuple[ToolUse, bool]:
    """Returns what tools used that are charged apart, and whether the number of searches is a guess.

    ``reported`` is the response's own account, ``tool_usage``: only it says which searches are billed. Without it,
    each search counts, and opening a page, or finding something in it, does not (responses API, "tool_usage").
    """
    kinds = [item["type"] for item in items]
    reported = reported if isinstance(reported, dict) else {}
    searches = _count_in(reported.get("web_search"), "num_requests")
    is_guess = searches is None and "web_search_call" in kinds
    images = reported.get("image_gen")
    tool_use = ToolUse(
        web_searches=sum(map(_is_search, items)) if searches is None else searches,
        file_searches=kinds.count("file_search_call"),
        code_sessions=len(
            {str(item.get("container_id")) for item in items if item["type"] == "code_interpreter_call"}
        ),
        image_input_tokens=_count_in(images, "input_tokens") or 0,
        image_output_tokens=_count_in(images, "output_tokens") or 0,
    )
    return tool_use, is_guess


def _is_search(item: Item) -> bool:
    action = item.get("action")
    kind = action.get("type") if isinstance(action, dict) else None
    return item["type"] == "web_search_call" and kind not in ("open_page", "find_in_page", "find")


def _count_in(value: Any, name: str) -> int | None:
    """Returns a count of an object; None if it is absent or no plausible count."""
    number = value.get(name) if isinstance(value, dict) else None
    is_count = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST_TOKENS
    return number if is_count else None


def _waits_for(items: Sequence[Item]) -> str | None:
    """Returns the type of an unanswered call; hosted tools come with their outputs.

    ``function_call`` is returned only if all unanswered calls are function calls: all must be answered to continue.
    """
    if not items:
        return None
    answered = [item.get("call_id") for item in items if item["type"].endswith("_output")]
    answered += [item.get("approval_request_id") for item in items if item["type"] == "mcp_approval_response"]
    waiting: str | None = None
    for item in items:
        kind: str = item["type"]
        if kind in _WAITING:
            called = item.get("id" if kind == "mcp_approval_request" else "call_id")
            if called is None or called not in answered:
                if kind != "function_call":
                    return kind
                waiting = kind
    return waiting


def _fault(error: Any) -> tuple[str | None, str | None]:
    """Returns the code and the message of a response's error."""
    if error is None:
        return None, None
    fields = error_fields({"error": error}) if isinstance(error, dict | str) else {}
    message = fields.get("message")
    return (
        code_text(fields.get("code")) or code_text(fields.get("type")),
        (collapse(message) or None) if isinstance(message, str) else None,
    )


def _reason(details: Any) -> str | None:
    return _text(details.get("reason")) if isinstance(details, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _timestamp(value: Any) -> float | None:
    """Returns Unix seconds of a number, of a number as text, or of an ISO 8601 text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso_timestamp(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_TIME:
        return float(value)
    return None


def _iso_timestamp(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _not_json(body: bytes) -> UnreadableReply:
    if not body.strip():
        return UnreadableReply("the reply is empty", foreign=True)
    if is_html(body):
        return UnreadableReply(f"the reply is a web page, not a response: {body_text(body)}", foreign=True)
    return UnreadableReply("the reply is not complete JSON")
