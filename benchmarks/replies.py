"""The replies of the responder: response objects in the API's format, made once and filled in by id.

They do not echo the request (``metadata`` stays empty), so the responder need not parse it.
"""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.words import passage

__all__ = ["Replies", "http_reply", "response_id"]

_MODEL = "gpt-5-mini-2025-08-07"
_VARIANTS = 64
_ID_DIGITS = 48

# The headers of a reply to a create; the limits are so high that they slow down no client.
_RATE_LIMITS = b"".join(
    b"x-ratelimit-limit-%b: 100000000\r\nx-ratelimit-remaining-%b: 99999999\r\nx-ratelimit-reset-%b: 1ms\r\n"
    % (kind, kind, kind)
    for kind in (b"requests", b"tokens")
)
_COMMON = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nopenai-version: 2020-10-01\r\n"
_REASONS = {200: b"OK", 404: b"Not Found"}


class Replies:
    """Whole HTTP replies for responses that are queued, in progress, or completed with about ``body_bytes``."""

    def __init__(self, body_bytes: int) -> None:
        rng = random.Random(1)
        bare = len(_Template("completed", _completed(""), b"").body(0, 1_700_000_000, b"1700000000"))
        texts = [passage(rng, max(1, body_bytes - bare)) for _ in range(_VARIANTS)]
        self._queued = _Template("queued", _OPEN, _RATE_LIMITS)
        self._in_progress = _Template("in_progress", _OPEN, b"")
        self._completed = [_Template("completed", _completed(text), b"") for text in texts]

    def queued(self, number: int, created_at: int) -> bytes:
        return self._queued.fill(number, created_at, b"null")

    def in_progress(self, number: int, created_at: int) -> bytes:
        return self._in_progress.fill(number, created_at, b"null")

    def completed(self, number: int, created_at: int, completed_at: int) -> bytes:
        return self._completed[number % _VARIANTS].fill(number, created_at, b"%d" % completed_at)


class _Template:
    """One kind of reply: only a few bytes at the front of the body differ, and its length is constant."""

    def __init__(self, status: str, rest: dict[str, Any], headers: bytes) -> None:
        self._tail = _tail(rest)
        self._front = (
            b'{"id":"%b","object":"response","created_at":%d,"status":"'
            + status.encode()
            + b'","background":true,"completed_at":%b,'
        )
        self._head = _COMMON % (200, b"OK") + headers

    def fill(self, number: int, created_at: int, completed_at: bytes) -> bytes:
        body = self.body(number, created_at, completed_at)
        return b"%bx-request-id: req_%024x\r\ncontent-length: %d\r\n\r\n%b" % (self._head, number, len(body), body)

    def body(self, number: int, created_at: int, completed_at: bytes) -> bytes:
        return self._front % (response_id(number), created_at, completed_at) + self._tail


def response_id(number: int) -> bytes:
    """The id of the response number ``number``, counted from 0."""
    return b"resp_%048x" % number


def http_reply(status: int, value: Any) -> bytes:
    """Any other reply."""
    body = json.dumps(value).encode()
    return _COMMON % (status, _REASONS[status]) + b"content-length: %d\r\n\r\n" % len(body) + body


def _tail(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode().removeprefix(b"{")


def _completed(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    message = {"id": "msg_1", "type": "message", "status": "completed", "content": [part], "role": "assistant"}
    return {
        **_FIELDS,
        "output": [{"id": "rs_1", "type": "reasoning", "summary": []}, message],
        "usage": {
            "input_tokens": 400,
            "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
            "output_tokens": 160,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 560,
        },
    }


# Every field but the first six, in the order in which the API writes them (responses API, the response object).
_FIELDS: dict[str, Any] = {
    "conversation": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": 300,
    "max_tool_calls": None,
    "model": _MODEL,
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": "medium", "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
    "user": None,
    "metadata": {},
}
_OPEN = {**_FIELDS, "service_tier": "auto"}
