"""Compacts a long conversation: the user's messages, and one item that stands for everything else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from orchestrator.core.model import Usage
from orchestrator.policy.pricing.tokens import count_tokens
from orchestrator.sandbox.simulation.models import Model
from orchestrator.sandbox.simulation.prompts import Prompt, pack, texts_of
from orchestrator.sandbox.simulation.response_json import usage_body
from orchestrator.sandbox.simulation.summaries import summarise
from orchestrator.sandbox.storage.input_items import list_items
from orchestrator.sandbox.storage.response_record import ResponseRecord, echoed_tier

__all__ = ["compact", "compaction_body"]

Json: TypeAlias = Any

_SENTENCES = 5


def compact(fields: Mapping[str, Json], prompt: Prompt, model: Model, *, ordinal: int, now: float) -> ResponseRecord:
    """The compaction as a response that has already ended: it is billed, but cannot be polled."""
    response_id = f"resp_{secrets.token_hex(25)}"
    tail = response_id.removeprefix("resp_")
    other_texts = [text for item in prompt.items if item.get("role") != "user" for text in texts_of(item)]
    summary = summarise("\n\n".join(other_texts) or prompt.text, _SENTENCES)
    user_items = [dict(item) for item in prompt.items if item.get("role") == "user"]
    compacted = {"type": "compaction", "id": f"cmp_{tail}", "encrypted_content": pack(summary)}
    tokens = count_tokens(summary)
    return ResponseRecord(
        id=response_id,
        ordinal=ordinal,
        created_at=now,
        starts_at=now,
        ends_at=now,
        end_status="completed",
        usable=False,
        usage=Usage(input_tokens=prompt.tokens, output_tokens=tokens, total_tokens=prompt.tokens + tokens),
        model=model.snapshot,
        tier=echoed_tier(fields.get("service_tier")),
        background=False,
        stored=False,
        streamed=False,
        echo=b"{}",
        output=orjson.dumps([*list_items(user_items, response_id), compacted]),
        delivered="completed",
    )


def compaction_body(record: ResponseRecord) -> dict[str, Json]:
    """The compaction as the API shows it."""
    return {
        "id": record.id,
        "object": "response.compaction",
        "created_at": int(record.created_at),
        "output": orjson.Fragment(record.output),
        "usage": usage_body(record.usage) if record.usage else None,
    }
