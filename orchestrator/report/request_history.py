"""The history of one request: its row, every attempt with its times and its charge, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any

import orjson
from rich.text import Text

from orchestrator.core import exact_json
from orchestrator.core.errors import CODES
from orchestrator.core.lanes import Lane
from orchestrator.core.model import Charge, UnitPrice
from orchestrator.core.money import format_usd
from orchestrator.core.states import State
from orchestrator.report import formatting
from orchestrator.report.summary import usage_object
from orchestrator.stores.reads import AttemptRecord, ToolCall
from orchestrator.stores.request_history import RequestHistory
from orchestrator.stores.stream_events import ProgressEvent

__all__ = ["history_object", "history_text", "raw_body"]

_LONG = 600
_STYLES = {State.SUCCEEDED: "green", State.FAILED: "red", State.IN_DOUBT: "yellow", State.CANCELLED: "yellow"}


def raw_body(history: RequestHistory) -> bytes | None:
    """Returns the latest response exactly as it was received."""
    return next((attempt.body for attempt in reversed(history.responses) if attempt.body is not None), None)


def history_object(history: RequestHistory, sent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns all that is known of one request, for scripts.

    ``sent`` is the body of its latest create call, if known; ``response`` is the body as received, parsed.
    """
    request, answered_by = history.request, history.answered_by
    return {
        "key": request.key,
        "stage": request.stage,
        "where": request.where,
        "state": request.state.value,
        "error": _error(request.code, request.message),
        "row": exact_json.loads(request.row) if request.row else None,
        "request": sent,
        "not_before": formatting.stamp(request.not_before or None),
        "settled_at": formatting.stamp(request.settled_at),
        "max_output_tokens": request.max_output_tokens,
        "chain": request.chain,
        "follows": request.follows,
        "attempts": [
            {
                **_attempt_object(attempt),
                "tool_calls": [_tool_object(call) for call in history.tool_calls.get(attempt.id, ())],
                "progress": [_event_object(event) for event in history.progress.get(attempt.id, ())],
            }
            for attempt in history.attempts
        ],
        "answered_by": (
            {"run": request.answered_in, "key": request.answered_as, **_attempt_object(answered_by)}
            if answered_by is not None
            else None
        ),
    }


def history_text(history: RequestHistory, sent: Mapping[str, Any] | None = None) -> Text:
    """Returns the same for people: long texts of row and request are cut, the answer is not."""
    request = history.request
    text = Text.assemble((request.key, "bold"), "  ", (request.state.value.replace("_", " "), _style(request.state)))
    text.append(f"\nfrom {request.where}")
    if request.chain is not None:
        text.append(f"\nin the chain {request.chain}" + (f", after {request.follows}" if request.follows else ""))
    if request.code:
        meaning = CODES.get(request.code)
        text.append(f"\n{request.code}: {request.message or meaning or ''}".rstrip(": "))
        text.append(f"\n({meaning})" if meaning and request.message else "", "dim")
    for attempt in history.attempts:
        _append_attempt(text, attempt, f"attempt {attempt.number}")
        for event in history.progress.get(attempt.id, ()):
            text.append(f"\n  {_event_text(event, attempt)}", "dim")
        for call in history.tool_calls.get(attempt.id, ()):
            text.append(f"\n  {_tool_text(call)}")
    if history.answered_by is not None:
        whose = f"{request.answered_as} of the run {request.answered_in}"
        _append_attempt(
            text, history.answered_by, f"answered by the response to {whose}, a duplicate of this request"
        )
    row = _readable(exact_json.loads(request.row)) if request.row else "its data was dropped, as retention asks"
    _append_section(text, "row", row)
    if sent is not None:
        _append_section(text, "request", _readable(sent))
    answer = next((attempt.output_text for attempt in reversed(history.responses) if attempt.output_text), None)
    if answer:
        _append_section(text, "answer", answer)
    return text


def _append_attempt(text: Text, attempt: AttemptRecord, title: str) -> None:
    text.append(f"\n\n{title}", "bold")
    text.append(f"  {'  '.join(_headline(attempt))}")
    text.append(f"\n  {_times(attempt)}")
    text.append(f"\n  {_charge_text(attempt)}" if attempt.charge else "")


def _append_section(text: Text, title: str, content: str) -> None:
    text.append(f"\n\n{title}", "bold")
    text.append(f"\n{indent(content, '  ')}")


def _tool_text(call: ToolCall) -> str:
    """Returns one call of a function tool as text: its arguments, its duration, and its output."""
    took = formatting.duration(call.ended_at - call.started_at)
    output = _shortened(call.output) if call.output else "(dropped)"
    return (
        f"{call.name}({_shortened(call.arguments)}) {'failed' if call.failed else 'returned'} after {took}: {output}"
    )


def _tool_object(call: ToolCall) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
        "output": call.output,
        "failed": call.failed,
        "started_at": formatting.stamp(call.started_at),
        "ended_at": formatting.stamp(call.ended_at),
    }


def _event_text(event: ProgressEvent, attempt: AttemptRecord) -> str:
    about = f" ({event.item})" if event.item else ""
    return f"{event.type}{about} after {formatting.duration(event.at - attempt.sent_at)}"


def _event_object(event: ProgressEvent) -> dict[str, Any]:
    return {"sequence": event.sequence, "type": event.type, "item": event.item, "at": formatting.stamp(event.at)}


def _style(state: State) -> str:
    return _STYLES.get(state, "cyan")


def _error(code: str | None, message: str | None) -> dict[str, str] | None:
    return {"code": code, "message": message or ""} if code else None


def _attempt_object(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "counted": attempt.counted,
        "response_id": attempt.response_id,
        "status": attempt.status,
        "http_status": attempt.http_status,
        "model": attempt.model,
        "service_tier": attempt.service_tier,
        "error": _error(attempt.code, attempt.message),
        "idempotency_key": attempt.idempotency_key,
        "sent_at": formatting.stamp(attempt.sent_at),
        "accepted_at": formatting.stamp(attempt.accepted_at),
        "completed_at": formatting.stamp(attempt.completed_at),
        "ended_at": formatting.stamp(attempt.ended_at),
        "deleted_at": formatting.stamp(attempt.deleted_at),
        "possible_duplicate": attempt.possible_duplicate,
        "worst_case_usd": None if attempt.worst_case_pusd is None else format_usd(attempt.worst_case_pusd),
        "charge": _charge_object(attempt.charge) if attempt.charge else None,
        "output_text": attempt.output_text,
        "response": exact_json.loads(attempt.body) if attempt.body else None,
        "lane": attempt.lane.value,
        "endpoint": attempt.endpoint,
    }


def _charge_object(charge: Charge) -> dict[str, Any]:
    return {
        "usage": usage_object(charge.usage) if charge.usage else None,
        "cost_usd": None if charge.cost_pusd is None else format_usd(charge.cost_pusd),
        "estimated": charge.estimated,
        "upper_bound_usd": None if charge.upper_bound_pusd is None else format_usd(charge.upper_bound_pusd),
        "web_searches": charge.tool_use.web_searches,
        "file_searches": charge.tool_use.file_searches,
        "code_sessions": charge.tool_use.code_sessions,
        "image_input_tokens": charge.tool_use.image_input_tokens,
        "image_output_tokens": charge.tool_use.image_output_tokens,
        "image_usd": format_usd(charge.image_pusd),
        "price": _price_object(charge.price) if charge.price else None,
    }


def _price_object(price: UnitPrice) -> dict[str, Any]:
    return {
        "model": price.model,
        "tier": price.tier,
        "estimated": price.estimated,
        "source": price.source,
        "version": price.version,
        "input_usd_per_million": format_usd(price.input * 10**6),
        "cached_usd_per_million": format_usd(price.cached * 10**6),
        "cache_write_usd_per_million": format_usd(price.cache_write * 10**6),
        "cache_write_12h_usd_per_million": format_usd(price.cache_write_12h * 10**6),
        "output_usd_per_million": format_usd(price.output * 10**6),
    }


def _headline(attempt: AttemptRecord) -> list[str]:
    words = [attempt.response_id or "no response", attempt.status or ""]
    if attempt.lane is not Lane.BACKGROUND:
        words.append(f"({attempt.lane})")
    if attempt.endpoint is not None:
        words.append(f"at {attempt.endpoint}")
    if attempt.code:
        words.append(f"{attempt.code}: {attempt.message}" if attempt.message else attempt.code)
    if not attempt.counted:
        words.append("(does not count)")
    if attempt.possible_duplicate:
        words.append("(a response with an unknown id may exist)")
    return [word for word in words if word]


def _times(attempt: AttemptRecord) -> str:
    times = [f"sent {formatting.date_time(attempt.sent_at)} UTC"]
    for name, at in (
        ("accepted", attempt.accepted_at),
        ("completed", attempt.completed_at),
        ("ended", attempt.ended_at),
    ):
        if at is not None:
            times.append(f"{name} after {formatting.duration(at - attempt.sent_at)}")
    if attempt.deleted_at is not None:
        times.append(f"deleted at the provider {formatting.date_time(attempt.deleted_at)} UTC")
    return " · ".join(times)


def _charge_text(attempt: AttemptRecord) -> str:
    charge = attempt.charge
    if charge is None:
        return ""
    parts = [", ".join(filter(None, (attempt.model, attempt.service_tier)))]
    if charge.usage:
        parts.append(f"{formatting.count(charge.usage.input_tokens)} in")
        parts.append(f"{formatting.count(charge.usage.output_tokens)} out")
    if charge.cost_pusd is not None:
        parts.append(f"${format_usd(charge.cost_pusd)}")
    elif charge.upper_bound_pusd is not None:
        parts.append(f"cost unknown, at most ${format_usd(charge.upper_bound_pusd)}")
    else:
        parts.append("cost unknown, no bound is known")
    if charge.estimated:
        parts.append("estimated")
    return " · ".join(filter(None, parts))


def _readable(value: Any) -> str:
    return exact_json.dumps(_shortened(value), option=orjson.OPT_INDENT_2).decode()


def _shortened(value: Any) -> Any:
    """Returns the value with long texts cut, at any depth."""
    match value:
        case str() if len(value) > _LONG:
            return f"{value[:_LONG]} … ({formatting.count(len(value))} characters; --json shows them all)"
        case dict():
            return {name: _shortened(item) for name, item in value.items()}
        case list():
            return [_shortened(item) for item in value]
    return value
