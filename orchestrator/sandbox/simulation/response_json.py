"""The JSON of a response at a given time, with every key of the API reference's "The Response object"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from orchestrator.core.model import Usage
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.storage.response_record import ResponseRecord, shown_status

__all__ = ["MARK", "echo_of", "is_final", "response_body", "usage_body"]

Json: TypeAlias = Any

# Metadata in every response, so that no answer is mistaken for a model's, unless all sixteen pairs are taken.
MARK = ("sandbox", "simulated")
_METADATA_PAIRS = 16

_OPEN_STATUSES = frozenset({"queued", "in_progress", "pending", "running"})
_ERRORS = {
    "server_error": "The server had an error while processing your request. Sorry about that!",
    "rate_limit_exceeded": "Rate limit reached while the response was being generated.",
    "invalid_prompt": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
}


def is_final(status: str) -> bool:
    """Whether a shown status is a final one."""
    return status not in _OPEN_STATUSES


def echo_of(fields: Mapping[str, Json], model: Model) -> bytes:
    """The fields of a response that follow from its request and never change, as a JSON object."""
    metadata = dict(fields.get("metadata") or {})
    if len(metadata) < _METADATA_PAIRS:
        metadata.setdefault(*MARK)
    text = fields.get("text") or {}
    conversation = fields.get("conversation")
    return orjson.dumps(
        {
            "background": bool(fields.get("background")),
            "conversation": {"id": conversation} if isinstance(conversation, str) else conversation,
            "instructions": fields.get("instructions"),
            "max_output_tokens": fields.get("max_output_tokens"),
            "max_tool_calls": fields.get("max_tool_calls"),
            "metadata": metadata,
            "parallel_tool_calls": _given(fields, "parallel_tool_calls", True),
            "previous_response_id": fields.get("previous_response_id"),
            "prompt_cache_key": fields.get("prompt_cache_key"),
            "prompt_cache_options": fields.get("prompt_cache_options"),
            "prompt_cache_retention": fields.get("prompt_cache_retention"),
            "reasoning": _reasoning(fields.get("reasoning") or {}, model),
            "safety_identifier": fields.get("safety_identifier"),
            "store": _given(fields, "store", True),
            "temperature": _given(fields, "temperature", 1.0),
            "text": {
                "format": text.get("format") or {"type": "text"},
                "verbosity": text.get("verbosity") or "medium",
            },
            "tool_choice": _given(fields, "tool_choice", "auto"),
            "tools": fields.get("tools") or [],
            "top_logprobs": fields.get("top_logprobs") or 0,
            "top_p": _given(fields, "top_p", 1.0),
            "truncation": fields.get("truncation") or "disabled",
            "user": fields.get("user"),
        }
    )


def response_body(record: ResponseRecord, now: float) -> bytes:
    """The response as a poll at this time shows it."""
    status = shown_status(record, now)
    ended = is_final(status) and status != "cancelled"
    failed = status == "failed"
    body: dict[str, Json] = {
        "id": record.id,
        "object": "response",
        "created_at": int(record.created_at),
        "status": status,
        "completed_at": int(record.ends_at) if status == "completed" else None,
        "error": {"code": record.error_code, "message": _ERRORS[record.error_code or ""]} if failed else None,
        "incomplete_details": {"reason": record.incomplete_reason} if status == "incomplete" else None,
        "model": record.model,
        # The tier in use is known only once the response runs.
        "service_tier": record.tier if ended else "auto",
        "output": orjson.Fragment(record.output) if ended else [],
        "usage": usage_body(record.usage) if ended and record.usage else None,
        **orjson.loads(record.echo),
    }
    if ended and record.hosted != b"{}":
        body["tool_usage"] = orjson.loads(record.hosted)["tool_usage"]
    if record.quirk == "ill_typed":
        _make_ill_typed(body, record)
    return orjson.dumps(body)


def usage_body(usage: Usage) -> dict[str, Json]:
    """The usage as the API shows it."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            **_written(usage),
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _written(usage: Usage) -> dict[str, Json]:
    """The written tokens by lifetime; left out if there are none."""
    if not usage.cache_write_tokens:
        return {}
    long_lived = usage.cache_write_12h_tokens
    split = {"ttl_30m_tokens": usage.cache_write_tokens - long_lived, "ttl_12h_tokens": long_lived}
    return {"cache_write_tokens_details": split}


def _make_ill_typed(body: dict[str, Json], record: ResponseRecord) -> None:
    """Sloppy typing that real servers have shown: ISO times, usage without details, null item statuses."""
    body["created_at"] = datetime.fromtimestamp(record.created_at, UTC).isoformat()
    if body["usage"]:
        body["usage"] = {name: n for name, n in body["usage"].items() if isinstance(n, int)}
    if body["output"]:
        body["output"] = [{**item, "status": None} for item in orjson.loads(record.output)]


def _reasoning(requested: Mapping[str, Json], model: Model) -> dict[str, Json]:
    default = "medium" if model.reasoning else None
    return {**requested, "effort": requested.get("effort") or default, "summary": requested.get("summary")}


def _given(fields: Mapping[str, Json], name: str, default: Json) -> Json:
    value = fields.get(name)
    return default if value is None else value
